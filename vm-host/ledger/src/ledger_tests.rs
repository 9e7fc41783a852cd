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

fn stopped(n: u128, generation: u64) -> DesktopObserved {
    sight(id(n), generation, Phase::Stopped, "")
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
    ledger.adopt(id(1), 1);
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
    Restarted,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let desktop =
        (0u128..3, 1u64..4, any::<bool>(), any::<bool>()).prop_map(|(n, generation, run, fresh)| {
            asked(n, generation, if run { DesiredState::Running } else { DesiredState::Absent }, fresh)
        });
    let told = (1u64..4, 1u64..6, prop::option::of(1u64..6), prop::collection::vec(desktop, 0..3), 0u128..4);
    let told = told.prop_map(|(epoch, revision, since, desktops, removed)| Step::Told {
        epoch,
        revision,
        since,
        desktops,
        removed: vec![id(removed)],
    });
    let step = prop_oneof![4 => told, 2 => (0u128..3).prop_map(Step::Gone), 1 => Just(Step::Restarted)];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn no_desktop_is_here_twice_and_none_is_made_twice_within_a_link(steps in steps()) {
        let mut ledger = Ledger::default();
        // The desktops that are on the host, and the generations that were made since a link or a start.
        let mut there: BTreeMap<DesktopId, u64> = BTreeMap::new();
        for step in steps {
            let orders = match step {
                Step::Told { epoch, revision, since, desktops, removed } => {
                    let desired = Desired { epoch, revision, since, desktops, removed, ..Desired::default() };
                    ledger.follow(&desired).unwrap_or_default()
                }
                Step::Gone(n) if !ledger.is_kept(id(n)) && there.contains_key(&id(n)) => {
                    let generation = there.remove(&id(n)).unwrap();
                    ledger.observe(stopped(n, generation))
                }
                Step::Gone(_) => Vec::new(),
                Step::Restarted => {
                    ledger = Ledger::new(ledger.followed());
                    there.iter().for_each(|(desktop, generation)| ledger.adopt(*desktop, *generation));
                    Vec::new()
                }
            };
            for order in orders {
                match order {
                    Order::Begin(d) => prop_assert_eq!(there.insert(d.desktop, d.generation), None),
                    Order::End(desktop) => prop_assert!(there.contains_key(&desktop)),
                    _ => {}
                }
            }
            for listed in ledger.complete() {
                let here = there.contains_key(&listed.desktop);
                prop_assert_eq!(here, listed.phase != Phase::Stopped, "{:?}", listed);
            }
            for (desktop, generation) in &there {
                let listed = ledger.complete().into_iter().find(|d| d.desktop == *desktop);
                prop_assert_eq!(listed.map(|d| d.generation), Some(*generation));
            }
        }
    }
}
