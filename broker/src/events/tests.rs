use super::*;
use log::REMEMBERED;
use lucarne_control::api::Role;
use lucarne_control::{DesktopId, UserId};

fn caller(role: Role) -> Caller {
    let user = Some(UserId::generate());
    let permissions = role.permissions().to_vec();
    let (grants, login) = (Vec::new(), Some(vec![1]));
    Caller { user, name: "ada".to_owned(), role, permissions, grants, login }
}

fn all() -> Filter {
    Filter { kinds: EventKind::ALL.into(), pool: None }
}

fn enter(events: &Arc<Events>, caller: Caller, last_id: Option<&str>) -> Place {
    events.enter(caller, all(), last_id).unwrap()
}

fn desktop(owner: Option<UserId>, pool: &str) -> Told {
    let (object, pool) = (Object::Desktop { pool: PoolId::generate(), owner }, Some(pool.to_owned()));
    let (kind, groups, data) = (EventKind::Desktop, BTreeSet::new(), String::new());
    Told { kind, data, object: Some(object), groups, pool, card: None }
}

/// Puts what was told of a desktop into the log.
fn tell(events: &Events, owner: Option<UserId>) -> DesktopId {
    let id = DesktopId::generate();
    let told = Entry::Told(Arc::new(desktop(owner, "desk")));
    lock(&events.inner).log.put(Thing::Desktop(id), told);
    id
}

fn waiting(events: &Events) -> usize {
    lock(&events.inner).waiting.len()
}

#[test]
fn what_changes_while_nobody_watches_waits_for_who_comes_back_and_for_nobody_else() {
    let events = Arc::new(Events::default());
    let first = enter(&events, caller(Role::User), None);
    let id = events.id(first.cursor);
    drop(first);
    for _ in 0..3 {
        events.changed(Change::Desktop(DesktopId::generate()));
    }
    assert_eq!(waiting(&events), 0, "nothing is to be read");
    let fresh = enter(&events, caller(Role::User), None);
    assert_eq!((fresh.start, waiting(&events)), (Start::Fresh, 0));
    let back = enter(&events, caller(Role::User), Some(&id));
    assert_eq!((back.start, waiting(&events)), (Start::Resumed, 3));
    drop((fresh, back));
    assert_eq!(waiting(&events), 0, "the last who watched went before it was read");
    assert_eq!(enter(&events, caller(Role::User), Some(&id)).start, Start::Resumed);
}

#[test]
fn an_id_of_another_run_is_known_to_nobody_nor_is_one_before_a_loss() {
    let events = Arc::new(Events::default());
    let other = Events::default();
    for id in [other.id(0), events.id(1), format!("x{}", events.id(0)), "1".to_owned(), String::new()] {
        assert_eq!(enter(&events, caller(Role::User), Some(&id)).start, Start::Lost, "{id:?}");
    }
    let id = events.id(0);
    assert_eq!(enter(&events, caller(Role::User), Some(&id)).start, Start::Resumed);
    events.missed();
    assert_eq!(enter(&events, caller(Role::User), Some(&id)).start, Start::Lost);
}

#[test]
fn who_may_see_something_else_than_when_they_went_reads_their_lists_again() {
    let events = Arc::new(Events::default());
    let (ada, ben) = (caller(Role::User), caller(Role::User));
    let start = |caller: &Caller, filter: Filter, id: &str| {
        events.enter(caller.clone(), filter, Some(id)).unwrap().start
    };
    let id = events.id(0);
    events.changed(Change::User(ada.user.unwrap()));
    assert_eq!((start(&ada, all(), &id), start(&ben, all(), &id)), (Start::Lost, Start::Resumed));
    let id = events.id(lock(&events.inner).log.head());
    events.changed(Change::Entitlements);
    let sessions = Filter { kinds: [EventKind::Session].into(), pool: None };
    assert_eq!((start(&ben, all(), &id), start(&ben, sessions, &id)), (Start::Lost, Start::Resumed));
}

#[test]
fn who_is_slow_reads_on_and_is_told_where_that_is_gone() {
    let events = Arc::new(Events::default());
    let place = enter(&events, caller(Role::Operator), None);
    tell(&events, None);
    tell(&events, None);
    let Next::Told(1, _) = events.next(0, &place.watcher) else { panic!("the first comes first") };
    let Next::Told(2, _) = events.next(1, &place.watcher) else { panic!("and the second then") };
    let Next::Nothing(2) = events.next(2, &place.watcher) else { panic!("there are no more") };
    for _ in 0..REMEMBERED {
        tell(&events, None);
    }
    let Next::Lost(head) = events.next(0, &place.watcher) else { panic!("what it has not read is gone") };
    let Next::Nothing(_) = events.next(head, &place.watcher) else { panic!("it has all lists now") };
}

#[test]
fn too_many_changes_at_once_are_told_as_one_loss() {
    let events = Arc::new(Events::default());
    let place = enter(&events, caller(Role::Operator), None);
    for _ in 0..=MOST_WAITING {
        events.changed(Change::Desktop(DesktopId::generate()));
    }
    assert_eq!(waiting(&events), 0);
    assert!(matches!(events.next(place.cursor, &place.watcher), Next::Lost(_)));
}

#[test]
fn what_is_anothers_is_for_those_who_may_see_everyones() {
    let events = Arc::new(Events::default());
    let (ada, ben) = (caller(Role::User), caller(Role::User));
    let (owner, auditor) = (ada.user, caller(Role::Auditor));
    let (ada, ben) = (enter(&events, ada, None), enter(&events, ben, None));
    let auditor = enter(&events, auditor, None);
    let told = desktop(owner, "desk");
    assert!(ada.watcher.concerns(&told) && auditor.watcher.concerns(&told));
    assert!(!ben.watcher.concerns(&told));
    assert!(!ben.watcher.concerns(&desktop(None, "desk")), "nobody's is not theirs");
    let nobody = enter(&events, Caller { user: None, ..caller(Role::User) }, None);
    assert!(!nobody.watcher.concerns(&desktop(None, "desk")));
    let host = Told { kind: EventKind::Host, object: None, ..desktop(None, "desk") };
    assert!(auditor.watcher.concerns(&host) && !ada.watcher.concerns(&host));
    let card = PoolId::generate();
    let told = Told { kind: EventKind::Card, card: Some(card), ..desktop(None, "desk") };
    assert!(!ada.watcher.concerns(&told));
    lock(&ada.watcher.usable).insert(card);
    assert!(ada.watcher.concerns(&told) && !ben.watcher.concerns(&told));
}

#[test]
fn who_wants_to_know_of_one_pool_hears_of_no_other() {
    let events = Arc::new(Events::default());
    let ada = caller(Role::User);
    let owner = ada.user;
    let filter = Filter { pool: Some("desk".to_owned()), ..all() };
    let place = events.enter(ada, filter, None).unwrap();
    assert!(place.watcher.concerns(&desktop(owner, "desk")));
    assert!(!place.watcher.concerns(&desktop(owner, "lab")));
}

#[test]
fn a_user_has_so_many_streams_and_no_more_until_one_ends() {
    let events = Arc::new(Events::default());
    let ada = caller(Role::User);
    let mut places: Vec<_> = (0..MOST_STREAMS).map(|_| enter(&events, ada.clone(), None)).collect();
    let refused = events.enter(ada.clone(), all(), None).map(drop);
    assert_eq!(refused, Err(TooMany("ada".to_owned())));
    enter(&events, caller(Role::User), None);
    places.pop();
    enter(&events, ada, None);
}
