//! The ledger's rules, case by case, and that whatever it is told no desktop is here twice.

use super::*;
use lucarne_control::desktop::Identity;
use lucarne_control::spec::{ImageDigest, MachineShape, NetworkPolicy, TemplateSpec};
use proptest::prelude::*;
use uuid::Uuid;

fn id(n: u128) -> DesktopId {
    DesktopId(Uuid::from_u128(n))
}

fn asked(n: u128, generation: u64, state: DesiredState, fresh: bool) -> DesktopDesired {
    let image = ImageDigest::try_from("a".repeat(64)).unwrap();
    DesktopDesired {
        desktop: id(n),
        generation,
        state,
        wish: 0,
        persistent: false,
        fresh,
        template: TemplateSpec { image, machine: MachineShape::default() },
        identity: Identity { hostname: "d".into(), machine_id: "m".into(), mac: "a".into() },
        network: NetworkPolicy::None,
        audio: false,
        clipboard: Default::default(),
        recording: Default::default(),
        pool: None,
        home: None,
        back_to: None,
        origin: None,
    }
}

fn run(n: u128) -> DesktopDesired {
    asked(n, 1, DesiredState::Running, true)
}

fn end(n: u128) -> DesktopDesired {
    asked(n, 1, DesiredState::Absent, false)
}

fn all(epoch: u64, revision: u64, desktops: Vec<DesktopDesired>) -> Desired {
    Desired { epoch, revision, desktops, ..Desired::default() }
}

/// One that persists, wanted for the `wish`th time.
fn keep(n: u128, wish: u64, state: DesiredState) -> DesktopDesired {
    DesktopDesired { wish, persistent: true, ..asked(n, 1, state, true) }
}

fn seen(n: u128, wish: u64, phase: Phase) -> DesktopObserved {
    sight(id(n), 1, wish, phase, "")
}

fn stopped(n: u128, generation: u64) -> DesktopObserved {
    sight(id(n), generation, 0, Phase::Stopped, "")
}

fn phases(ledger: &Ledger) -> Vec<Phase> {
    ledger.complete().into_iter().map(|d| d.phase).collect()
}

#[test]
fn a_desktop_is_listed_from_the_moment_it_is_to_be_made_until_nobody_asks_any_more() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.follow(&all(1, 1, vec![run(1)])).unwrap(), [Order::Begin(run(1))]);
    assert_eq!(phases(&ledger), [Phase::Placing]);
    assert_eq!(ledger.follow(&all(1, 2, vec![end(1)])).unwrap(), [Order::End(id(1))]);
    assert_eq!(ledger.follow(&all(1, 3, vec![end(1)])).unwrap(), [], "it was told before");
    assert_eq!(ledger.observe(stopped(1, 1)), [Order::Tell(stopped(1, 1))]);
    assert_eq!(phases(&ledger), [Phase::Stopped], "until the broker has heard it");
    ledger.follow(&all(1, 4, vec![])).unwrap();
    assert_eq!(phases(&ledger), []);
}

#[test]
fn what_is_not_desired_is_ended() {
    let mut ledger = Ledger::default();
    ledger.adopt(id(1), 1, 0, false);
    assert_eq!(ledger.follow(&all(1, 1, vec![])).unwrap(), [Order::End(id(1))]);
}

#[test]
fn what_is_not_here_is_gone_where_it_may_not_be_made() {
    let mut ledger = Ledger::default();
    let told = all(1, 1, vec![asked(1, 3, DesiredState::Running, false), end(2)]);
    let orders = ledger.follow(&told).unwrap();
    let Order::Tell(lost) = &orders[0] else { panic!("{orders:?}") };
    assert!(lost.phase == Phase::Stopped && lost.generation == 3 && lost.detail.contains("any more"));
    assert_eq!(orders[1], Order::Tell(stopped(2, 1)));
    let again = ledger.follow(&all(1, 1, vec![asked(1, 3, DesiredState::Absent, false), end(2)])).unwrap();
    assert_eq!(again, orders, "whoever asks is told");
    // Nothing that is said of the same generation later makes it.
    assert_eq!(ledger.follow(&all(1, 2, vec![asked(1, 3, DesiredState::Running, true)])).unwrap(), []);
}

#[test]
fn earlier_links_earlier_revisions_and_changes_to_other_sets_are_refused() {
    let mut ledger = Ledger::default();
    ledger.follow(&all(5, 7, vec![run(1)])).unwrap();
    let seen = Followed { epoch: 5, revision: 7 };
    let old = ledger.follow(&all(4, 9, vec![]));
    assert_eq!(old, Err(Refusal::Epoch { told: Followed { epoch: 4, revision: 9 }, seen }));
    let old = ledger.follow(&all(5, 6, vec![]));
    assert_eq!(old, Err(Refusal::Revision { told: Followed { epoch: 5, revision: 6 }, seen }));
    let change = |epoch, since| Desired { since: Some(since), ..all(epoch, 9, vec![end(1)]) };
    assert_eq!(ledger.follow(&change(5, 6)), Err(Refusal::Gap { since: 6, seen }));
    assert_eq!(ledger.follow(&change(6, 7)), Err(Refusal::Gap { since: 7, seen }));
    assert!(ledger.is_kept(id(1)) && ledger.followed() == seen, "nothing has changed");
    assert_eq!(ledger.follow(&change(5, 7)).unwrap(), [Order::End(id(1))]);
    assert_eq!(ledger.follow(&change(5, 7)).unwrap(), [], "twice is once");
}

#[test]
fn a_change_leaves_alone_what_it_does_not_name() {
    let mut ledger = Ledger::default();
    ledger.follow(&all(1, 1, vec![run(1), run(2)])).unwrap();
    let change = Desired { since: Some(1), removed: vec![id(2)], ..all(1, 2, vec![run(3)]) };
    assert_eq!(ledger.follow(&change).unwrap(), [Order::End(id(2)), Order::Begin(run(3))]);
    assert!(ledger.is_kept(id(1)));
}

#[test]
fn a_higher_generation_waits_until_the_lower_one_is_gone_and_a_lower_one_is_stale() {
    let mut ledger = Ledger::default();
    ledger.follow(&all(1, 1, vec![run(1)])).unwrap();
    let second = asked(1, 2, DesiredState::Running, true);
    assert_eq!(ledger.follow(&all(1, 2, vec![second.clone()])).unwrap(), [Order::End(id(1))]);
    let orders = ledger.observe(stopped(1, 1));
    assert_eq!(orders, [Order::Tell(stopped(1, 1)), Order::Begin(second)]);
    let stale = Order::Stale { desktop: id(1), told: 1, here: 2 };
    assert_eq!(ledger.follow(&all(1, 3, vec![run(1)])).unwrap(), [stale]);
    assert_eq!(ledger.observe(stopped(1, 1)), [], "that was another");
}

#[test]
fn what_persists_is_powered_off_and_started_by_later_wishes_only() {
    use DesiredState::{Off, Running};
    let mut ledger = Ledger::default();
    let first = keep(1, 3, Running);
    assert_eq!(ledger.follow(&all(1, 1, vec![first.clone()])).unwrap(), [Order::Begin(first.clone())]);
    assert_eq!(ledger.complete()[0].wish, 3);
    let ready = seen(1, 3, Phase::Ready);
    assert_eq!(ledger.observe(ready.clone()), [Order::Tell(ready.clone())]);
    assert_eq!(ledger.follow(&all(1, 2, vec![first])).unwrap(), [], "it was followed before");
    let off = keep(1, 4, Off);
    assert_eq!(ledger.follow(&all(1, 3, vec![off.clone()])).unwrap(), [Order::Change(off.clone())]);
    assert_eq!(ledger.follow(&all(1, 4, vec![off.clone()])).unwrap(), [], "it is being done");
    let is_off = seen(1, 4, Phase::Off);
    assert_eq!(ledger.observe(is_off.clone()), [Order::Tell(is_off.clone())]);
    assert!(
        ledger.is_kept(id(1)) && ledger.complete() == [is_off.clone()],
        "it is listed for as long as it is here"
    );
    // A lower wish is not obeyed, whatever it is; who has it is told that there was a later one.
    for (wish, state) in [(4, Running), (3, Running), (2, Off)] {
        let told = ledger.follow(&all(1, 5, vec![keep(1, wish, state)])).unwrap();
        assert_eq!(told, [Order::Tell(is_off.clone())], "{wish}");
    }
    assert_eq!(
        ledger.follow(&all(1, 6, vec![off])).unwrap(),
        [Order::Tell(is_off)],
        "who asks has not heard it"
    );
    let again = keep(1, 5, Running);
    let change = Desired { since: Some(6), ..all(1, 7, vec![again.clone()]) };
    assert_eq!(ledger.follow(&change).unwrap(), [Order::Change(again)]);
}

#[test]
fn what_ended_by_itself_stays_off_until_a_later_wish_and_no_restart_forgets_that() {
    let running = |wish| keep(1, wish, DesiredState::Running);
    let mut ledger = Ledger::default();
    ledger.follow(&all(1, 1, vec![running(1)])).unwrap();
    ledger.observe(seen(1, 1, Phase::Off));
    let told = ledger.follow(&all(1, 2, vec![running(1)])).unwrap();
    assert_eq!(told, [Order::Tell(seen(1, 1, Phase::Off))]);
    ledger = Ledger::new(ledger.followed());
    ledger.adopt(id(1), 1, 1, true);
    assert_eq!(ledger.complete()[0].wish, 1);
    assert_eq!(ledger.follow(&all(2, 1, vec![running(1)])).unwrap(), []);
    assert_eq!(ledger.follow(&all(2, 2, vec![running(2)])).unwrap(), [Order::Change(running(2))]);
    // What is said of the earlier wish does not pass for what became of the later one.
    let late = seen(1, 1, Phase::Off);
    assert_eq!(ledger.observe(late.clone()), [Order::Tell(late)]);
    assert_eq!(ledger.follow(&all(2, 3, vec![running(2)])).unwrap().len(), 1);
    assert!(ledger.is_kept(id(1)));
}

#[test]
fn what_persists_ends_only_when_it_is_to_be_absent_or_is_not_listed() {
    use DesiredState::{Absent, Off, Running};
    let mut ledger = Ledger::default();
    ledger.follow(&all(1, 1, vec![keep(1, 1, Running), keep(2, 1, Running), keep(3, 1, Running)])).unwrap();
    (1..=3).for_each(|n| drop(ledger.observe(seen(n, 1, Phase::Off))));
    let absent = DesktopDesired { fresh: false, ..keep(1, 2, Absent) };
    let orders = ledger.follow(&all(1, 2, vec![absent.clone(), keep(3, 1, Running)])).unwrap();
    let told = Order::Tell(seen(3, 1, Phase::Off));
    assert_eq!(orders, [Order::End(id(2)), Order::End(id(1)), told]);
    // Its end is about the wish that ended it, and nothing that is said later brings it back.
    let gone = seen(1, 2, Phase::Stopped);
    assert_eq!(ledger.observe(seen(1, 1, Phase::Stopped)), [Order::Tell(gone.clone())]);
    let orders = ledger.follow(&all(1, 3, vec![keep(1, 9, Running)])).unwrap();
    assert_eq!(orders, [Order::End(id(3)), Order::Tell(gone.clone())]);
    for state in [Off, Absent] {
        let told = ledger.follow(&all(1, 4, vec![keep(1, 10, state)])).unwrap();
        assert_eq!(told, [Order::Tell(gone.clone())]);
    }
}

#[test]
fn what_persists_is_made_even_if_it_is_not_to_run_yet_and_what_does_not_persist_is_never_off() {
    let mut ledger = Ledger::default();
    let off = keep(1, 2, DesiredState::Off);
    assert_eq!(ledger.follow(&all(1, 1, vec![off.clone()])).unwrap(), [Order::Begin(off)]);
    let orders = ledger.follow(&all(1, 2, vec![keep(1, 2, DesiredState::Off), run(2)])).unwrap();
    assert_eq!(orders, [Order::Begin(run(2))]);
    // There is nothing of it to be kept, so who asks for that has mistaken it for another.
    let floating = DesktopDesired { wish: 7, ..asked(2, 1, DesiredState::Off, true) };
    let known = keep(1, 2, DesiredState::Off);
    assert_eq!(ledger.follow(&all(1, 3, vec![known.clone(), floating.clone()])).unwrap(), []);
    assert!(ledger.is_kept(id(2)));
    let lost = DesktopDesired { fresh: false, ..keep(4, 5, DesiredState::Off) };
    let orders = ledger.follow(&all(1, 4, vec![known, floating, lost])).unwrap();
    let [Order::Tell(lost)] = &orders[..] else { panic!("{orders:?}") };
    assert!(lost.phase == Phase::Stopped && lost.wish == 5 && lost.detail.contains("any more"), "{lost:?}");
}

#[test]
fn whoever_decides_anew_of_what_is_gone_is_told_that_it_is() {
    let mut ledger = Ledger::default();
    let lost = |wish, state| DesktopDesired { fresh: false, ..keep(1, wish, state) };
    let gone =
        |orders: Vec<Order>| matches!(&orders[..], [Order::Tell(seen)] if seen.phase == Phase::Stopped);
    assert!(gone(ledger.follow(&all(1, 1, vec![lost(2, DesiredState::Off)])).unwrap()));
    assert!(gone(ledger.follow(&all(1, 2, vec![lost(3, DesiredState::Running)])).unwrap()));
    assert_eq!(ledger.follow(&all(1, 3, vec![lost(3, DesiredState::Running)])).unwrap(), [], "it was told");
}

/// What can happen to a host.
#[derive(Clone, Debug)]
enum Step {
    Told {
        epoch: u64,
        revision: u64,
        since: Option<u64>,
        desktops: Vec<DesktopDesired>,
        removed: Vec<DesktopId>,
    },
    Gone(u128),
    Off(u128),
    Restarted,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let desktop = (0u128..4, 1u64..4, 0u64..6, 0usize..3, any::<bool>()).prop_map(
        |(n, generation, wish, state, fresh)| {
            let state = [DesiredState::Running, DesiredState::Off, DesiredState::Absent][state];
            // Two of them persist.
            DesktopDesired { wish, persistent: n > 1, ..asked(n, generation, state, fresh) }
        },
    );
    let told = (1u64..4, 1u64..6, prop::option::of(1u64..6), prop::collection::vec(desktop, 0..3), 0u128..4);
    let told = told.prop_map(|(epoch, revision, since, desktops, removed)| Step::Told {
        epoch,
        revision,
        since,
        desktops,
        removed: vec![id(removed)],
    });
    let step = prop_oneof![
        4 => told,
        2 => (0u128..4).prop_map(Step::Gone),
        2 => (0u128..4).prop_map(Step::Off),
        1 => Just(Step::Restarted),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn no_desktop_is_here_twice_and_none_is_made_twice_within_a_link(steps in steps()) {
        let mut ledger = Ledger::default();
        // The desktops that are on the host, and the generations that were made since a link or a start.
        // With each the last wish that it was given.
        let mut there: BTreeMap<DesktopId, (u64, u64)> = BTreeMap::new();
        for step in steps {
            let orders = match step {
                Step::Told { epoch, revision, since, desktops, removed } => {
                    let desired = Desired { epoch, revision, since, desktops, removed, ..Desired::default() };
                    ledger.follow(&desired).unwrap_or_default()
                }
                Step::Gone(n) if !ledger.is_kept(id(n)) && there.contains_key(&id(n)) => {
                    let (generation, _) = there.remove(&id(n)).unwrap();
                    ledger.observe(stopped(n, generation))
                }
                Step::Off(n) if n > 1 && ledger.is_kept(id(n)) => {
                    let (generation, wish) = there[&id(n)];
                    ledger.observe(sight(id(n), generation, wish, Phase::Off, ""))
                }
                Step::Gone(_) | Step::Off(_) => Vec::new(),
                Step::Restarted => {
                    ledger = Ledger::new(ledger.followed());
                    for (&desktop, &(generation, wish)) in &there {
                        ledger.adopt(desktop, generation, wish, desktop > id(1));
                    }
                    Vec::new()
                }
            };
            for order in orders {
                match order {
                    Order::Begin(d) => {
                        prop_assert_eq!(there.insert(d.desktop, (d.generation, d.wish)), None);
                    }
                    Order::Change(d) => {
                        prop_assert!(d.persistent && d.state != DesiredState::Absent);
                        let before = there.insert(d.desktop, (d.generation, d.wish));
                        prop_assert!(before.is_some_and(|(g, w)| g == d.generation && w < d.wish), "{:?}", d);
                    }
                    Order::End(desktop) => prop_assert!(there.contains_key(&desktop)),
                    _ => {}
                }
            }
            for listed in ledger.complete() {
                let here = there.contains_key(&listed.desktop);
                prop_assert_eq!(here, listed.phase != Phase::Stopped, "{:?}", listed);
            }
            for (desktop, (generation, _)) in &there {
                let listed = ledger.complete().into_iter().find(|d| d.desktop == *desktop);
                prop_assert_eq!(listed.map(|d| d.generation), Some(*generation));
            }
        }
    }
}
