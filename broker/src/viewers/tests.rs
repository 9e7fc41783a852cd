//! The registry's promises, one by one and for whatever happens in whatever order.

use super::room::Seat;
use super::*;
use lucarne_control::viewer::{ViewerRole, ViewerWish};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TAKE_OVER: Entry = Entry::User(ViewerWish::TakeOver);
const SHARE: Entry = Entry::User(ViewerWish::Share);
const VIEW_ONLY: Entry = Entry::User(ViewerWish::ViewOnly);
const WITH_CONSENT: Entry = Entry::Shadow { control: true, consent: true };
const WITH_NOTICE: Entry = Entry::Shadow { control: false, consent: false };

fn newcomer(entry: Entry, kind: ViewerKind) -> Newcomer {
    Newcomer {
        entry,
        user: "ada".to_owned(),
        address: "192.0.2.7".to_owned(),
        kind,
        security: "TLS".to_owned(),
        notices: kind == ViewerKind::Browser,
    }
}

fn browser(entry: Entry) -> Newcomer {
    newcomer(entry, ViewerKind::Browser)
}

fn question() -> ShadowQuestion {
    let id = ShadowId::generate();
    ShadowQuestion { id, user: "root".into(), control: false, reason: String::new(), answer_within_s: 30 }
}

fn roles(viewers: &Viewers, session: SessionId) -> Vec<(ViewerRole, bool)> {
    viewers.of(session).iter().map(|v| (v.role, v.control)).collect()
}

#[tokio::test]
async fn the_newest_owner_takes_over_and_the_earlier_is_told_who_came() {
    let (viewers, session) = (Viewers::default(), SessionId::generate());
    let (first, first_end) = viewers.enter(session, browser(TAKE_OVER)).unwrap();
    let (_looking, _) = viewers.enter(session, browser(VIEW_ONLY)).unwrap();
    assert_eq!(viewers.in_the_way(session, TAKE_OVER).unwrap().len(), 1);
    let (second, second_end) = viewers.enter(session, newcomer(TAKE_OVER, ViewerKind::Vnc)).unwrap();
    let End::TakenOver(by) = first_end.await.unwrap() else { panic!("another end") };
    assert_eq!((by.id, by.kind), (second.id, ViewerKind::Vnc));
    assert_eq!(
        End::TakenOver(by).to_string(),
        "the session is used from elsewhere: a VNC viewer at 192.0.2.7"
    );
    drop(first);
    assert!(viewers.in_use(session), "who was taken over takes nothing along");
    assert_eq!(roles(&viewers, session), [(ViewerRole::ViewOnly, false), (ViewerRole::Owner, true)]);
    viewers.end(session, &End::LoggedOff);
    assert_eq!(second_end.await, Ok(End::LoggedOff));
    assert!(viewers.lock().sessions.is_empty());
}

#[tokio::test]
async fn who_shares_or_only_looks_ends_nobody() {
    let (viewers, session) = (Viewers::default(), SessionId::generate());
    let (mut first, mut end) = viewers.enter(session, browser(TAKE_OVER)).unwrap();
    let (second, _) = viewers.enter(session, browser(SHARE)).unwrap();
    let (_third, _) = viewers.enter(session, browser(VIEW_ONLY)).unwrap();
    assert!(end.try_recv().is_err());
    assert_eq!(first.sight.borrow_and_update().viewers.len(), 3);
    assert!(viewers.stop(session, second.id, "ada"));
    assert!(first.sight.has_changed().unwrap());
    assert!(!viewers.stop(session, second.id, "ada"), "it has gone already");
}

#[tokio::test]
async fn the_last_place_is_the_owners() {
    let (viewers, session) = (Viewers::default(), SessionId::generate());
    let looking: Vec<_> =
        (1..MOST).map(|_| viewers.enter(session, browser(VIEW_ONLY)).expect("there is room")).collect();
    assert_eq!(viewers.enter(session, browser(VIEW_ONLY)).err(), Some(End::Full));
    let owner = viewers.enter(session, browser(TAKE_OVER)).unwrap();
    assert_eq!(viewers.in_the_way(session, SHARE), Err(End::Full));
    let newer = viewers.enter(session, browser(TAKE_OVER)).expect("taking over always fits");
    drop((looking, owner, newer));
    assert!(viewers.lock().sessions.is_empty(), "refusals leave nothing behind");
}

#[tokio::test]
async fn a_question_is_answered_once_and_by_the_one_who_sees_it() {
    let (viewers, session) = (Viewers::default(), SessionId::generate());
    assert_eq!(viewers.ask(session, question()).err(), Some(NotAsked::Nobody));
    let _vnc = viewers.enter(session, newcomer(TAKE_OVER, ViewerKind::Vnc)).unwrap();
    assert_eq!(viewers.ask(session, question()).err(), Some(NotAsked::Nobody));
    let (owner, _end) = viewers.enter(session, browser(SHARE)).unwrap();
    let mut asking = viewers.ask(session, question()).unwrap();
    assert_eq!(viewers.ask(session, question()).err(), Some(NotAsked::Busy));
    assert_eq!(owner.sight.borrow().questions.len(), 1);
    let yes = Answer { by: "ada".to_owned(), allow: true };
    assert!(viewers.answer(session, asking.id, yes.clone()));
    assert!(!viewers.answer(session, asking.id, yes.clone()));
    assert_eq!((&mut asking.answer).await, Ok(yes));
    assert!(owner.sight.borrow().questions.is_empty());
    let again = viewers.ask(session, question()).unwrap();
    drop(again);
    assert!(owner.sight.borrow().questions.is_empty(), "it was taken back");
    let left = viewers.ask(session, question()).unwrap();
    drop(owner);
    let mut left = left;
    assert!((&mut left.answer).await.is_err(), "nobody is there to answer");
}

#[tokio::test]
async fn a_shadow_ends_when_the_owner_cannot_see_it_any_more() {
    let (viewers, session) = (Viewers::default(), SessionId::generate());
    assert_eq!(viewers.enter(session, browser(WITH_CONSENT)).err(), Some(End::Unseen));
    let (owner, _owner_end) = viewers.enter(session, browser(TAKE_OVER)).unwrap();
    let (_shadow, asked) = viewers.enter(session, browser(WITH_CONSENT)).unwrap();
    let (_notice, mut told) = viewers.enter(session, browser(WITH_NOTICE)).unwrap();
    drop(owner);
    assert_eq!(asked.await, Ok(End::Unseen), "whoever gave consent has gone");
    assert!(told.try_recv().is_err(), "nobody is watched");
    let _vnc = viewers.enter(session, newcomer(TAKE_OVER, ViewerKind::Vnc)).unwrap();
    assert_eq!(told.await, Ok(End::Unseen), "a VNC viewer cannot show it");
}

#[derive(Clone, Debug)]
enum Step {
    Enter(Entry, bool),
    Leave(usize),
    Stop(usize),
    Ask,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let entry = prop::sample::select(vec![TAKE_OVER, SHARE, VIEW_ONLY, WITH_CONSENT, WITH_NOTICE]);
    prop_oneof![
        8 => (entry, any::<bool>()).prop_map(|(entry, notices)| Step::Enter(entry, notices)),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Stop),
        1 => Just(Step::Ask),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    /// Whatever happens: two owners only if the later shared, everyone who is ended is told why and only once, nobody is
    /// watched without seeing it, and there is an end to their number.
    #[test]
    fn a_room_keeps_its_promises(steps in prop::collection::vec(step(), 1..60)) {
        let mut room = Room::default();
        let mut here: BTreeMap<u64, Seat> = BTreeMap::new();
        for (n, step) in (1..).zip(steps) {
            let picked = |n: usize| here.keys().nth(n % here.len().max(1)).copied();
            let (change, gone) = match step {
                Step::Enter(entry, notices) => {
                    let (role, control) = (entry.role(), entry.control());
                    let kind = if notices { ViewerKind::Browser } else { ViewerKind::Vnc };
                    let Newcomer { user, address, security, .. } = newcomer(entry, kind);
                    let viewer = Viewer { id: n, role, control, user, address, kind, security, since: 0 };
                    let seat = Seat { viewer, notices, entry };
                    match room.enter(seat.clone()) {
                        Ok(change) => {
                            here.insert(n, seat);
                            (change, None)
                        }
                        Err(why) => {
                            prop_assert!(entry != TAKE_OVER, "the owner always gets in");
                            prop_assert!(matches!(why, End::Full | End::Unseen));
                            (Change::default(), None)
                        }
                    }
                }
                Step::Leave(who) => match picked(who) {
                    Some(id) => (room.leave(id), Some(id)),
                    None => continue,
                },
                Step::Stop(who) => match picked(who) {
                    Some(id) => {
                        let change = room.stop(id, "ada").expect("it is here");
                        prop_assert_eq!(&change.ended[0], &(id, End::Stopped("ada".to_owned())));
                        (change, None)
                    }
                    None => continue,
                },
                Step::Ask => {
                    let seen = here.values().any(|s| s.entry.role() == ViewerRole::Owner && s.notices);
                    let asked = room.questions().is_empty();
                    prop_assert_eq!(room.ask(question()), seen && asked);
                    (Change::default(), None)
                }
                Step::Clear => (room.clear(&End::LoggedOff), None),
            };
            if let Some(id) = gone {
                here.remove(&id);
            }
            for (id, _) in &change.ended {
                prop_assert!(here.remove(id).is_some(), "viewer {} was told twice, or was not here", id);
            }
            let ids: Vec<u64> = room.viewers().iter().map(|v| v.id).collect();
            prop_assert_eq!(&ids, &here.keys().copied().collect::<Vec<_>>(), "nobody goes untold");
            prop_assert!(ids.len() <= MOST);
            let owners: Vec<&Seat> =
                here.values().filter(|s| s.viewer.role == ViewerRole::Owner).collect();
            prop_assert!(owners.iter().skip(1).all(|s| s.entry == SHARE), "two in control, and nobody shared");
            let shown = owners.iter().any(|s| s.notices);
            for seat in here.values() {
                if let Entry::Shadow { consent, .. } = seat.entry {
                    prop_assert!(shown || (!consent && owners.is_empty()), "somebody is watched unseen");
                }
            }
            prop_assert!(shown || room.questions().is_empty());
            prop_assert_eq!(room.is_empty(), here.is_empty() && room.questions().is_empty());
        }
    }
}
