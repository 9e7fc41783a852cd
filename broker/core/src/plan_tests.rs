//! What `plan` decides, case by case, and that it decides the same from the same.

use super::*;
use lucarne_control::PoolId;
use lucarne_control::desktop::ForkTimings;
use lucarne_db::value::Json;
use proptest::prelude::*;
use std::sync::LazyLock;
use uuid::Uuid;

fn observed(phase: Phase, generation: u64) -> DesktopObserved {
    DesktopObserved {
        desktop: DesktopId(Uuid::nil()),
        generation,
        wish: 1,
        phase,
        detail: "no space left".to_owned(),
        endpoint: None,
        timings: ForkTimings::default(),
    }
}

const HERE: HostId = HostId(Uuid::from_u128(1));

fn desktop(desired: DesiredState) -> Desktop {
    Desktop {
        id: DesktopId(Uuid::nil()),
        pool_id: PoolId(Uuid::nil()),
        name: "desk-abc".to_owned(),
        machine_id: String::new(),
        mac: String::new(),
        desired,
        desired_gen: 7,
        phase: Phase::Placing,
        detail: String::new(),
        timings: Json::default(),
        host_id: Some(HERE),
        generation: 3,
        placed: true,
        held: false,
        endpoint: None,
        user_id: None,
        assigned: true,
        created_at: 1,
        ended_at: None,
        launch: None,
        policy: None,
        persistent: false,
        taken_at: Some(1),
        disk_id: None,
        back_to: None,
        back_gen: 0,
        origin_id: None,
    }
}

fn after(desired: DesiredState, phase: Phase, generation: u64) -> Option<Action> {
    step(&desktop(desired), HERE, &observed(phase, generation))
}

static FACTS: LazyLock<HostFacts> =
    LazyLock::new(|| HostFacts { cpus: 2, memory_mib: 4096, ..HostFacts::default() });

fn host(name: &'static str, id: u128) -> Candidate<'static> {
    Candidate {
        host: HostId(Uuid::from_u128(id)),
        name,
        facts: &FACTS,
        promised_mib: 0,
        promised_vcpus: 0,
        lacks: None,
        has_image: true,
        drained: false,
        seen: HostSeen { online: true, memory_available: None, template: None },
    }
}

/// What a desktop of that much memory and two processors needs.
fn demand(memory_mib: u64) -> Demand {
    let strategy = PlacementStrategy::Spread;
    Demand { memory_mib, vcpus: 2, memory_percent: 200, cpu_percent: 1600, strategy }
}

fn chosen(hosts: &[Candidate<'_>], memory_mib: u64) -> Option<HostId> {
    choose_host(hosts, &demand(memory_mib)).ok().map(|choice| choice.host)
}

#[test]
fn what_is_said_of_hosts_is_what_decides() {
    let drained = Candidate { drained: true, ..host("attic", 1) };
    let fuller = Candidate { promised_mib: 2048, ..host("cellar", 2) };
    let empty = host("loft", 3);
    let failed = TemplateState::Failed;
    let broken = Candidate {
        seen: HostSeen { template: Some((failed, "no disk".to_owned())), ..empty.seen.clone() },
        ..host("shed", 4)
    };
    let hosts = [drained.clone(), fuller, empty, broken];
    let choice = choose_host(&hosts, &demand(1024)).unwrap();
    assert_eq!(
        choice.why,
        "0 % of its memory is promised; its template has to be made first, of 2 hosts that fit"
    );
    let said: Vec<_> =
        consider(&hosts, &demand(1024)).into_iter().map(|v| (v.name, v.fits, v.says)).collect();
    let said: Vec<_> = said.iter().map(|(name, fits, says)| (name.as_str(), *fits, says.as_str())).collect();
    assert_eq!(said[0].0, "loft");
    assert_eq!(
        said[1],
        ("cellar", true, "50 % of its memory is promised; its template has to be made first")
    );
    assert!(said[2..].contains(&(
        "attic",
        false,
        "it is drained: an administrator lets no new desktops go there"
    )));
    assert!(said[2..].contains(&("shed", false, "its template could not be made: no disk")));
    let Err(NoChoice::NoHost(why)) = choose_host(&[drained], &demand(1024)) else { panic!() };
    assert!(why.contains("attic: it is drained"), "{why}");
}

#[test]
fn a_placement_is_freed_only_by_a_confirmed_stop() {
    for phase in [Phase::Ready, Phase::Stopping, Phase::Failed, Phase::Lost, Phase::Starting] {
        assert_eq!(after(DesiredState::Absent, phase, 3), None, "{phase:?}");
    }
    assert_eq!(after(DesiredState::Absent, Phase::Stopped, 3), Some(Action::Free));
}

#[test]
fn what_was_seen_of_another_generation_or_by_another_host_counts_for_nothing() {
    for desired in [DesiredState::Absent, DesiredState::Running] {
        for phase in [Phase::Stopped, Phase::Failed, Phase::Ready] {
            assert_eq!(after(desired, phase, 2), None);
            assert_eq!(after(desired, phase, 4), None);
            let elsewhere = HostId(Uuid::from_u128(2));
            assert_eq!(step(&desktop(desired), elsewhere, &observed(phase, 3)), None);
            let freed = Desktop { placed: false, ..desktop(desired) };
            assert_eq!(step(&freed, HERE, &observed(phase, 3)), None);
        }
    }
}

#[test]
fn a_desktop_that_died_or_is_gone_fails_with_the_hosts_reason() {
    for phase in [Phase::Failed, Phase::Stopped] {
        assert_eq!(after(DesiredState::Running, phase, 3), Some(Action::Fail));
        assert_eq!(failure(&observed(phase, 3)), "no space left");
    }
    let wordless = DesktopObserved { detail: String::new(), ..observed(Phase::Stopped, 3) };
    assert_eq!(failure(&wordless), "it stopped by itself");
}

#[test]
fn what_is_on_record_is_not_noted_again_and_a_host_that_has_it_holds_it() {
    assert_eq!(after(DesiredState::Running, Phase::Ready, 3), Some(Action::Note));
    let known = Desktop {
        phase: Phase::Ready,
        detail: "no space left".to_owned(),
        held: true,
        ..desktop(DesiredState::Running)
    };
    assert_eq!(step(&known, HERE, &observed(Phase::Ready, 3)), None);
    assert!(!is_held(Phase::Preparing) && is_held(Phase::Starting) && is_held(Phase::Ready));
}

#[test]
fn a_host_with_the_template_ready_is_preferred_then_the_emptier_then_the_lower_id() {
    let mut ready = host("ready", 9);
    ready.promised_mib = 2048;
    ready.seen.template = Some((TemplateState::Ready, String::new()));
    let mut fuller = host("fuller", 1);
    fuller.promised_mib = 1024;
    let (empty, empty_too) = (host("empty", 3), host("empty too", 2));
    assert_eq!(chosen(&[fuller.clone(), ready.clone(), empty.clone()], 1024), Some(ready.host));
    assert_eq!(chosen(&[fuller, empty, empty_too.clone()], 1024), Some(empty_too.host));
}

#[test]
fn a_refusal_names_each_host_and_its_reason() {
    let mut offline = host("attic", 1);
    offline.seen.online = false;
    let mut full = host("cellar", 2);
    full.promised_mib = 8192;
    let mut bare = host("porch", 3);
    bare.has_image = false;
    let Err(NoChoice::NoHost(reason)) = choose_host(&[offline, full, bare], &demand(1024)) else { panic!() };
    for part in ["attic: its agent is not connected", "cellar: 8192 of 8192 MiB", "porch: it does not have"] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn where_hosts_are_packed_the_fullest_that_fits_is_chosen() {
    let mut full = host("full", 1);
    full.promised_mib = 8000;
    let mut half = host("half", 2);
    half.promised_mib = 4096;
    let pack = Demand { strategy: PlacementStrategy::Pack, ..demand(1024) };
    let hosts = [full, half.clone(), host("empty", 3)];
    assert_eq!(choose_host(&hosts, &pack).unwrap().host, half.host);
    assert_eq!(consider(&hosts, &pack)[0].name, "half");
}

#[test]
fn processors_are_promised_as_often_as_the_pool_says() {
    let mut busy = host("busy", 1);
    busy.promised_vcpus = 31;
    let Err(NoChoice::NoHost(why)) = choose_host(&[busy.clone()], &demand(256)) else { panic!() };
    assert_eq!(why, "busy: its desktops have 31 of 32 virtual processors, and 2 more do not fit");
    let more = Demand { cpu_percent: 1700, ..demand(256) };
    assert!(choose_host(&[busy], &more).is_ok());
    let less = Demand { memory_percent: 100, ..demand(4097) };
    let Err(NoChoice::NoHost(why)) = choose_host(&[host("small", 1)], &less) else { panic!() };
    assert!(why.contains("0 of 4096 MiB"), "{why}");
}

#[test]
fn a_host_without_the_label_is_passed_over() {
    let lacking = Candidate { lacks: Some("site=north".to_owned()), ..host("south", 1) };
    let Err(NoChoice::NoHost(why)) = choose_host(&[lacking], &demand(1024)) else { panic!() };
    assert_eq!(why, "south: it does not have the label site=north");
}

#[test]
fn what_is_powered_off_by_itself_rests_and_what_is_of_an_earlier_wish_says_nothing() {
    let of = |desired, wish| {
        let seen = DesktopObserved { wish, ..observed(Phase::Off, 3) };
        step(&desktop(desired), HERE, &seen)
    };
    assert_eq!(of(DesiredState::Running, 7), Some(Action::Rest));
    assert_eq!(of(DesiredState::Running, 6), None, "it is being powered on");
    assert_eq!(of(DesiredState::Off, 7), Some(Action::Note));
    assert_eq!(of(DesiredState::Absent, 7), None);
    assert_eq!(after(DesiredState::Off, Phase::Stopped, 3), Some(Action::Fail), "its disk is gone");
}

#[test]
fn what_runs_on_though_it_was_to_be_suspended_is_told_apart_from_what_has_not_heard_of_it_yet() {
    let of =
        |desired, phase, wish| step(&desktop(desired), HERE, &DesktopObserved { wish, ..observed(phase, 3) });
    let to_suspend = |phase, wish| of(DesiredState::Suspended, phase, wish);
    assert_eq!(to_suspend(Phase::Ready, 6), Some(Action::Note), "its host was not told yet");
    assert_eq!(to_suspend(Phase::Stopping, 7), Some(Action::Note));
    assert_eq!(to_suspend(Phase::Suspended, 7), Some(Action::Note));
    assert_eq!(to_suspend(Phase::Ready, 7), Some(Action::Refused));
    assert_eq!(to_suspend(Phase::Off, 7), Some(Action::Rest), "it ended before");
    assert_eq!(of(DesiredState::Running, Phase::Suspended, 7), Some(Action::Rest));
    assert_eq!(of(DesiredState::Running, Phase::Suspended, 6), None, "it is being resumed");
}

#[test]
fn a_personal_desktop_that_its_host_does_not_find_is_kept() {
    let kept = Desktop { persistent: true, held: true, ..desktop(DesiredState::Running) };
    for phase in [Phase::Stopped, Phase::Failed] {
        assert_eq!(step(&kept, HERE, &observed(phase, 3)), Some(Action::Note), "{phase:?}");
    }
    let never_made = Desktop { held: false, ..kept };
    assert_eq!(step(&never_made, HERE, &observed(Phase::Failed, 3)), Some(Action::Fail));
}

#[test]
fn a_failed_template_is_told_apart_from_a_missing_host() {
    let mut failed = host("attic", 1);
    failed.seen.template = Some((TemplateState::Failed, "the disk is full".to_owned()));
    assert_eq!(
        choose_host(&[failed], &demand(1024)),
        Err(NoChoice::TemplateFailed("attic: the disk is full".to_owned()))
    );
}

proptest! {
    #[test]
    fn the_choice_does_not_depend_on_the_order_of_hosts(
        promised in proptest::collection::vec(0u64..9000, 1..6), turn in 0usize..6, size in 256u64..4096,
    ) {
        let mut hosts: Vec<_> = promised.iter().enumerate().map(|(i, p)| {
            let mut h = host("h", i as u128);
            h.promised_mib = *p;
            h
        }).collect();
        let first = choose_host(&hosts, &demand(size));
        let len = hosts.len();
        hosts.rotate_left(turn % len);
        prop_assert_eq!(first.clone().ok(), choose_host(&hosts, &demand(size)).ok());
        if let Ok(chosen) = first {
            let h = hosts.iter().find(|h| h.host == chosen.host).expect("the choice is a candidate");
            prop_assert!(h.promised_mib + size <= h.facts.memory_mib * 2);
        }
    }
}

#[test]
fn why_it_is_not_to_run_is_not_overwritten_by_what_its_host_does_for_it() {
    for desired in [DesiredState::Off, DesiredState::Suspended] {
        assert!(keeps_detail(desired, &observed(Phase::Stopping, 3)));
        let told = DesktopObserved { detail: String::new(), ..observed(Phase::Suspended, 3) };
        assert!(keeps_detail(desired, &told));
        assert!(!keeps_detail(desired, &observed(Phase::Suspended, 3)), "it says something else");
    }
    assert!(!keeps_detail(DesiredState::Running, &observed(Phase::Stopping, 3)));
}
