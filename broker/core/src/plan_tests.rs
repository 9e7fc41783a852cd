//! What `plan` decides, case by case, and that it decides the same from the same.

use super::*;
use lucarne_control::PoolId;
use lucarne_control::desktop::ForkTimings;
use lucarne_db::value::Json;
use proptest::prelude::*;
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
    }
}

fn after(desired: DesiredState, phase: Phase, generation: u64) -> Option<Action> {
    step(&desktop(desired), HERE, &observed(phase, generation))
}

fn host(name: &str, id: u128) -> Candidate {
    Candidate {
        host: HostId(Uuid::from_u128(id)),
        name: name.to_owned(),
        memory_mib: 4096,
        promised_mib: 0,
        has_image: true,
        drained: false,
        seen: HostSeen { online: true, memory_available: None, template: None },
    }
}

fn chosen(hosts: &[Candidate], memory_mib: u64) -> Option<HostId> {
    choose_host(hosts, memory_mib).ok().map(|choice| choice.host)
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
    let choice = choose_host(&hosts, 1024).unwrap();
    assert_eq!(
        choice.why,
        "0 % of its memory is promised; its template has to be made first, of 2 hosts that fit"
    );
    let said: Vec<_> = consider(&hosts, 1024).into_iter().map(|v| (v.name, v.fits, v.says)).collect();
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
    let Err(NoChoice::NoHost(why)) = choose_host(&[drained], 1024) else { panic!() };
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
    let Err(NoChoice::NoHost(reason)) = choose_host(&[offline, full, bare], 1024) else { panic!() };
    for part in ["attic: its agent is not connected", "cellar: 8192 of 8192 MiB", "porch: it does not have"] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn a_failed_template_is_told_apart_from_a_missing_host() {
    let mut failed = host("attic", 1);
    failed.seen.template = Some((TemplateState::Failed, "the disk is full".to_owned()));
    assert_eq!(
        choose_host(&[failed], 1024),
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
        let first = choose_host(&hosts, size);
        let len = hosts.len();
        hosts.rotate_left(turn % len);
        prop_assert_eq!(first.clone().ok(), choose_host(&hosts, size).ok());
        if let Ok(chosen) = first {
            let h = hosts.iter().find(|h| h.host == chosen.host).expect("the choice is a candidate");
            prop_assert!(h.promised_mib + size <= h.memory_mib * MEMORY_PROMISE);
        }
    }
}
