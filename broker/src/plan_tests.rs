//! What `plan` decides, case by case, and that it decides the same from the same.

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

fn observed(phase: Phase, generation: u64) -> DesktopObserved {
    DesktopObserved {
        desktop: DesktopId(Uuid::nil()),
        generation,
        phase,
        detail: "no space left".to_owned(),
        endpoint: None,
        timings: ForkTimings::default(),
    }
}

fn desktop(desired: DesiredState, seen: Option<DesktopObserved>) -> Snapshot {
    Snapshot {
        desktops: vec![DesktopSnapshot {
            desktop: DesktopId(Uuid::nil()),
            desired,
            desired_gen: 7,
            recorded: Phase::Placing,
            placement: Some(3),
            assigned: true,
            observed: seen,
        }],
    }
}

fn host(name: &str, id: u128) -> Candidate {
    Candidate {
        host: HostId(Uuid::from_u128(id)),
        name: name.to_owned(),
        memory_mib: 4096,
        promised_mib: 0,
        has_image: true,
        seen: HostSeen { online: true, memory_available: None, template: None },
    }
}

#[test]
fn a_placement_is_freed_only_by_a_confirmed_stop() {
    let absent = DesiredState::Absent;
    for phase in [Phase::Ready, Phase::Stopping, Phase::Failed, Phase::Lost, Phase::Starting] {
        assert_eq!(plan(&desktop(absent, Some(observed(phase, 3)))), [], "{phase:?}");
    }
    assert_eq!(plan(&desktop(absent, None)), [], "a silent host confirms nothing");
    assert_eq!(
        plan(&desktop(absent, Some(observed(Phase::Stopped, 3)))),
        [Action::ConfirmStopped { desktop: DesktopId(Uuid::nil()), desired_gen: 7 }]
    );
}

#[test]
fn what_was_seen_of_an_earlier_generation_counts_for_nothing() {
    for desired in [DesiredState::Absent, DesiredState::Running] {
        for phase in [Phase::Stopped, Phase::Failed, Phase::Ready] {
            assert_eq!(plan(&desktop(desired, Some(observed(phase, 2)))), []);
        }
    }
}

#[test]
fn a_desktop_that_died_fails_with_the_hosts_reason() {
    let actions = plan(&desktop(DesiredState::Running, Some(observed(Phase::Failed, 3))));
    let [Action::Fail { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(reason, "no space left");
}

#[test]
fn a_desktop_that_nobody_has_is_destroyed() {
    let mut s = desktop(DesiredState::Running, Some(observed(Phase::Ready, 3)));
    s.desktops[0].assigned = false;
    assert_eq!(plan(&s), [Action::Destroy { desktop: DesktopId(Uuid::nil()), desired_gen: 7 }]);
}

#[test]
fn readiness_is_recorded_once() {
    let mut s = desktop(DesiredState::Running, Some(observed(Phase::Ready, 3)));
    assert!(matches!(plan(&s)[..], [Action::RecordReady { .. }]));
    s.desktops[0].recorded = Phase::Ready;
    assert_eq!(plan(&s), []);
}

#[test]
fn a_host_with_the_template_ready_is_preferred_then_the_emptier_then_the_lower_id() {
    let mut ready = host("ready", 9);
    ready.promised_mib = 2048;
    ready.seen.template = Some((TemplateState::Ready, String::new()));
    let mut fuller = host("fuller", 1);
    fuller.promised_mib = 1024;
    let (empty, empty_too) = (host("empty", 3), host("empty too", 2));
    assert_eq!(choose_host(&[fuller.clone(), ready.clone(), empty.clone()], 1024), Ok(ready.host));
    assert_eq!(choose_host(&[fuller, empty, empty_too.clone()], 1024), Ok(empty_too.host));
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
            let h = hosts.iter().find(|h| h.host == chosen).expect("the choice is a candidate");
            prop_assert!(h.promised_mib + size <= h.memory_mib * MEMORY_PROMISE);
        }
    }
}
