//! What roles for one pool or one group promise, shown on every engine.

use super::tests::{Scene, new_pool, scene};
use super::*;
use lucarne_control::api::{NewPool, Permission as P, Role, ScopeKind};
use lucarne_control::{GroupId, PoolId, UserId};
use lucarne_db::tables::{Audit, EVERYONE_ID, ScopedRole};
use std::collections::BTreeSet;
use uuid::Uuid;

lucarne_postgres::on_each_engine!(
    scene:
    a_role_holds_where_it_was_given_and_nowhere_else,
    a_token_for_less_has_less_in_a_scope_too,
    who_leaves_a_group_or_comes_into_it_is_judged_by_that_at_once,
    lists_have_what_is_within_and_pages_are_full_as_far_as_there_is_more,
    what_is_given_twice_is_there_once_and_each_change_is_on_record_once,
    roles_that_hold_everywhere_are_not_given_for_a_scope,
    a_scoped_role_goes_with_its_pool_and_with_its_user,
    a_plan_has_only_pools_that_its_maker_may_change,
);

const LAB: &str = "lab";

fn for_pool(name: &str) -> Scope {
    Scope::Pool(name.to_owned())
}

fn for_group(name: &str) -> Scope {
    Scope::Group(name.to_owned())
}

impl Scene {
    /// A pool beside `desk`.
    async fn pool(&self, name: &str) -> PoolId {
        let image = self.store.pool("desk").await.unwrap().template.image;
        self.store.create_pool("admin", &new_pool(name), &image).await.unwrap().id
    }

    async fn give(&self, user: &str, role: Role, scope: Scope) {
        self.store.give_scoped_role("admin", user, role, &scope).await.unwrap();
    }

    async fn group(&self, name: &str) -> GroupId {
        self.store.group(name).await.unwrap().id
    }

    /// Somebody by a fresh sign-in that is for these permissions.
    async fn caller(&self, user: UserId, only: Option<&[P]>) -> Caller {
        let hash = Uuid::now_v7().as_bytes().to_vec();
        let new = NewToken { permissions: only.map(<[P]>::to_vec), ..NewToken::default() };
        self.store.create_token(user, "test", new, &hash).await.unwrap();
        self.again(&hash).await
    }

    async fn again(&self, hash: &[u8]) -> Caller {
        let alone = self.store.caller(hash).await.unwrap().unwrap();
        let many = self.store.callers([hash.to_vec()].into()).await.unwrap();
        assert_eq!(many.get(hash), Some(&alone), "asked for one by one or together they are the same");
        alone
    }

    async fn may(&self, caller: &Caller, permission: P, object: Object) -> bool {
        self.store.holds(&caller.reach(&[permission]), object).await.unwrap()
    }

    /// What was written down of roles.
    async fn on_record(&self) -> Vec<(String, String, String)> {
        let rows: Vec<Audit> = self.all(Audit::all).await;
        let roles = rows.into_iter().filter(|row| row.action.starts_with("user.scoped_role"));
        roles.map(|row| (row.action, row.subject, row.detail)).collect()
    }
}

async fn a_role_holds_where_it_was_given_and_nowhere_else(scene: Scene) {
    let (eve, ada, ben) = (scene.user("eve").await, scene.user("ada").await, scene.user("ben").await);
    let (desk, lab) = (scene.store.pool("desk").await.unwrap().id, scene.pool(LAB).await);
    scene.store.join_group("admin", "ada", "staff").await.unwrap();
    let staff = scene.group("staff").await;
    scene.give("eve", Role::HelpDesk, for_pool(LAB)).await;
    scene.give("eve", Role::Operator, for_group("staff")).await;
    let eves = scene.caller(eve, None).await;
    let of = |pool, owner| Object::Desktop { pool, owner };
    for (permission, object, may) in [
        (P::PoolsRead, Object::Pool(lab), true),
        (P::PoolsRead, Object::Pool(desk), false),
        // An operator of a group is none of pools, and the help desk of a pool changes none.
        (P::PoolsWrite, Object::Pool(lab), false),
        (P::UsersRead, Object::User(ada), true),
        (P::UsersRead, Object::User(ben), false),
        (P::UsersRead, Object::User(eve), false),
        (P::UsersRead, Object::Group(staff), true),
        (P::UsersRead, Object::Group(EVERYONE_ID), false),
        (P::DesktopsRead, of(desk, Some(ada)), true),
        (P::DesktopsRead, of(desk, Some(ben)), false),
        (P::DesktopsRead, of(desk, None), false),
        (P::DesktopsRead, of(lab, Some(ben)), true),
        (P::DesktopsRead, of(lab, None), true),
        (P::DesktopsWrite, of(desk, Some(ada)), true),
        (P::DesktopsWatch, of(lab, Some(ben)), true),
        (P::DesktopsWatch, of(desk, Some(ada)), false),
        (P::Own, of(desk, Some(eve)), true),
        (P::Own, of(lab, Some(ben)), false),
    ] {
        assert_eq!(scene.may(&eves, permission, object).await, may, "{permission} {object:?}");
    }
    for never in [P::UsersWrite, P::HostsRead, P::HostsWrite, P::ImagesRead, P::AuditRead, P::HostsTrust] {
        assert!(eves.reach(&[never]).is_empty(), "{never}");
    }
    assert!(P::ALL.iter().all(|p| eves.may(*p) == (*p == P::Own)), "nothing of it holds everywhere");
    let bens = scene.caller(ben, None).await;
    assert!(!scene.may(&bens, P::DesktopsRead, of(lab, Some(ada))).await);

    scene.give("ben", Role::Auditor, for_group("everyone")).await;
    let bens = scene.caller(ben, None).await;
    assert!(scene.may(&bens, P::UsersRead, Object::User(eve)).await);
    assert!(scene.may(&bens, P::DesktopsRead, of(desk, Some(eve))).await);
    assert!(!scene.may(&bens, P::DesktopsRead, of(desk, None)).await, "what is nobody's is not everyone's");
    assert!(!scene.may(&bens, P::PoolsRead, Object::Pool(desk)).await);
}

async fn a_token_for_less_has_less_in_a_scope_too(scene: Scene) {
    let eve = scene.user("eve").await;
    let lab = Object::Pool(scene.pool(LAB).await);
    scene.give("eve", Role::Operator, for_pool(LAB)).await;
    let narrow = scene.caller(eve, Some(&[P::PoolsRead, P::HostsRead])).await;
    assert!(scene.may(&narrow, P::PoolsRead, lab).await);
    for permission in [P::PoolsWrite, P::DesktopsRead, P::DesktopsWrite, P::HostsRead, P::Own] {
        assert!(narrow.reach(&[permission]).is_empty(), "{permission}");
    }
}

async fn who_leaves_a_group_or_comes_into_it_is_judged_by_that_at_once(scene: Scene) {
    let (eve, ada) = (scene.user("eve").await, scene.user("ada").await);
    let desk = scene.store.pool("desk").await.unwrap().id;
    let hers = Object::Desktop { pool: desk, owner: Some(ada) };
    scene.store.join_group("admin", "ada", "staff").await.unwrap();
    scene.give("eve", Role::HelpDesk, for_group("staff")).await;
    let hash = vec![7; 32];
    scene.store.create_token(eve, "eve", NewToken::default(), &hash).await.unwrap();
    let may = async || scene.may(&scene.again(&hash).await, P::DesktopsWrite, hers).await;
    assert!(may().await);
    let left = scene.store.leave_group("admin", "ada", "staff").await.unwrap();
    assert_eq!(left, Some(scene.group("staff").await));
    assert!(!may().await);
    assert_eq!(scene.store.leave_group("admin", "ada", "staff").await.unwrap(), None);
    assert_eq!(scene.store.join_group("admin", "ada", "staff").await.unwrap(), left);
    assert!(may().await);
    scene.store.take_scoped_role("admin", "eve", Role::HelpDesk, &for_group("staff")).await.unwrap();
    assert!(!may().await, "a role that is taken away is gone, too");
}

/// All pages of a list, each but the last with `$n` rows.
macro_rules! paged {
    ($n:literal, $after:ident => $page:expr, $id:expr) => {{
        let (mut all, mut $after) = (Vec::new(), None);
        loop {
            let page = $page.await.unwrap();
            all.extend(page.iter().map($id));
            let Some(last) = page.last() else { break };
            if page.len() < $n {
                break;
            }
            $after = Some($id(last));
        }
        all
    }};
}

async fn lists_have_what_is_within_and_pages_are_full_as_far_as_there_is_more(scene: Scene) {
    let store = &scene.store;
    let eve = scene.user("eve").await;
    let pools = [store.pool("desk").await.unwrap().id, scene.pool(LAB).await, scene.pool("attic").await];
    let mut users = Vec::new();
    for n in 0..7 {
        let name = format!("u{n}");
        users.push(scene.user(&name).await);
        if n % 2 == 0 {
            store.join_group("admin", &name, "staff").await.unwrap();
        }
        if n % 3 == 0 {
            store.join_group("admin", &name, "guests").await.unwrap();
        }
        scene.connect_to(users[n], ["desk", LAB][n % 2]).await.unwrap();
    }
    scene.give("eve", Role::HelpDesk, for_pool(LAB)).await;
    scene.give("eve", Role::HelpDesk, for_pool("attic")).await;
    let reach = |caller: &Caller, p| caller.reach(&[p]);
    let caller = scene.caller(eve, None).await;
    let of_pools = reach(&caller, P::PoolsRead);
    let seen = paged!(1, after => store.pools(&of_pools, after, 1), |pool: &PoolRow| pool.id);
    assert_eq!(seen, pools[1..]);
    assert!(store.users(&reach(&caller, P::UsersRead), None, 9).await.unwrap().is_empty());
    assert!(store.groups(&reach(&caller, P::UsersRead), None, 9).await.unwrap().is_empty());
    let owner = |row: &DesktopRow| row.user.as_ref().unwrap().0;
    let desktops = reach(&caller, P::DesktopsRead);
    let all = store.desktops(&Reach::everywhere(), false, None, 99).await.unwrap();
    let within: Vec<_> = all.iter().filter(|row| row.pool_id == pools[1]).map(|row| row.id).collect();
    assert_eq!(within.len(), 3);
    for ended_too in [false, true] {
        let seen =
            paged!(2, after => store.desktops(&desktops, ended_too, after, 2), |row: &DesktopRow| row.id);
        assert_eq!(seen, within);
    }

    scene.give("eve", Role::HelpDesk, for_group("guests")).await;
    scene.give("eve", Role::HelpDesk, for_group("staff")).await;
    let caller = scene.caller(eve, None).await;
    let people = reach(&caller, P::UsersRead);
    let mut members: Vec<_> = [0, 2, 3, 4, 6].map(|n| users[n]).into();
    let seen =
        paged!(2, after => store.users(&people, after, 2), |user: &lucarne_control::api::User| user.id);
    assert_eq!(seen, members);
    let groups: BTreeSet<_> = [scene.group("staff").await, scene.group("guests").await].into();
    let seen = paged!(1, after => store.groups(&people, after, 1), |g: &lucarne_control::api::Group| g.id);
    assert_eq!(seen, groups.into_iter().collect::<Vec<_>>());
    // Members' of whichever pool, and everybody's of the lab, each once.
    members.extend([users[1], users[5]]);
    let members: BTreeSet<_> = members.into_iter().collect();
    let desktops = reach(&caller, P::DesktopsRead);
    let seen = paged!(2, after => store.desktops(&desktops, false, after, 2), |row: &DesktopRow| row.id);
    let within: Vec<_> = all.iter().filter(|row| members.contains(&owner(row))).map(|row| row.id).collect();
    assert_eq!((seen.len(), &seen), (7, &within));
    let seen =
        paged!(2, after => store.sessions(&desktops, false, after, 2), |row: &SessionRow| row.session.id);
    assert_eq!(seen.len(), 7);
    assert!(seen.is_sorted());
}

async fn what_is_given_twice_is_there_once_and_each_change_is_on_record_once(scene: Scene) {
    let eve = scene.user("eve").await;
    let lab = scene.pool(LAB).await;
    for _ in 0..2 {
        scene.give("eve", Role::Operator, for_pool(LAB)).await;
    }
    scene.give("eve", Role::Auditor, for_group("everyone")).await;
    let shown = scene.store.user("eve").await.unwrap().scoped_roles;
    let said: Vec<_> = shown.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["operator for the pool lab", "auditor for the group everyone"]);
    assert_eq!((shown[0].id, shown[1].id), (lab.0, EVERYONE_ID.0));
    for _ in 0..2 {
        let taken = scene.store.take_scoped_role("admin", "eve", Role::Operator, &for_pool(LAB)).await;
        assert_eq!(taken.unwrap(), eve);
    }
    let entry = |action: &str, detail: &str| {
        (format!("user.scoped_role_{action}"), "eve".to_owned(), detail.to_owned())
    };
    let expected = [
        entry("given", "operator for the pool lab"),
        entry("given", "auditor for the group everyone"),
        entry("taken", "operator for the pool lab"),
    ];
    assert_eq!(scene.on_record().await, expected);
}

async fn roles_that_hold_everywhere_are_not_given_for_a_scope(scene: Scene) {
    scene.user("eve").await;
    for (role, why) in [(Role::Administrator, "give themselves the rest"), (Role::User, "entitle them")] {
        let refused = scene.store.give_scoped_role("admin", "eve", role, &for_pool("desk")).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(role.as_str()) && said.contains(why), "{said}");
    }
    let give = async |user, scope| {
        scene.store.give_scoped_role("admin", user, Role::Auditor, &scope).await.unwrap_err().to_string()
    };
    assert_eq!(give("eve", for_pool("cellar")).await, "there is no pool \"cellar\"");
    assert_eq!(give("eve", for_group("crew")).await, "there is no group \"crew\"");
    assert_eq!(give("nobody", for_pool("desk")).await, "there is no user \"nobody\"");
    assert!(scene.all(ScopedRole::all).await.is_empty() && scene.on_record().await.is_empty());
}

async fn a_scoped_role_goes_with_its_pool_and_with_its_user(scene: Scene) {
    let (eve, ada) = (scene.user("eve").await, scene.user("ada").await);
    let lab = scene.pool(LAB).await;
    for (user, role) in [("eve", Role::Operator), ("eve", Role::HelpDesk), ("ada", Role::Auditor)] {
        scene.give(user, role, for_pool(LAB)).await;
        scene.give(user, role, for_pool("desk")).await;
    }
    let deleted = scene.store.delete_pool("admin", LAB, false).await.unwrap();
    assert_eq!(deleted.users.into_iter().collect::<BTreeSet<_>>(), [eve, ada].into());
    assert!(scene.all(move || ScopedRole::within(&ScopeKind::Pool, &lab.0)).await.is_empty());
    assert_eq!(scene.all(ScopedRole::all).await.len(), 3);
    let taken = scene.on_record().await.into_iter().filter(|(action, ..)| action.ends_with("taken"));
    let said: Vec<_> = taken.map(|(_, subject, detail)| format!("{subject}: {detail}")).collect();
    assert_eq!(said.len(), 3);
    assert!(said.contains(&"ada: auditor for the pool lab, which was deleted".to_owned()), "{said:?}");
    // Another pool of that name is another pool.
    scene.pool(LAB).await;
    assert!(scene.store.user("eve").await.unwrap().scoped_roles.iter().all(|held| held.name == "desk"));
    scene.store.delete_user("admin", "eve").await.unwrap();
    assert!(scene.all(move || ScopedRole::of(&eve)).await.is_empty());
    assert_eq!(scene.all(move || ScopedRole::of(&ada)).await.len(), 1);
}

async fn a_plan_has_only_pools_that_its_maker_may_change(scene: Scene) {
    let store = &scene.store;
    let eve = scene.user("eve").await;
    scene.pool(LAB).await;
    scene.pool("attic").await;
    scene.give("eve", Role::Operator, for_pool(LAB)).await;
    scene.give("eve", Role::HelpDesk, for_pool("desk")).await;
    let reach = scene.caller(eve, None).await.reach(&[P::PoolsWrite]);
    let wanted = |names: &[&str], prune| {
        let change = |name: &&str| NewPool { max_desktops: Some(3), ..new_pool(name) };
        Wanted { pools: names.iter().map(change).collect(), prune }
    };
    // One that there is not is no more theirs than one that they may only see.
    for (others, said) in [
        (&[LAB, "desk"][..], "\"desk\" is not among them"),
        (&["new", LAB], "\"new\" is not among them"),
        (&["attic", "new"], "\"attic\", \"new\" are not among them"),
    ] {
        let wanted = wanted(others, false);
        let shown = store.plan_pools(&reach, &wanted).await.unwrap_err();
        let done = store.apply_pools("eve", &reach, &wanted, None).await.unwrap_err();
        assert_eq!(shown.to_string(), done.to_string());
        assert!(matches!(&shown, Error::OutOfScope(_)) && shown.to_string().contains(said), "{shown}");
    }
    assert_eq!(store.pool(LAB).await.unwrap().max_desktops, 64, "nothing of such a plan is done");
    let plan = store.apply_pools("eve", &reach, &wanted(&[LAB], false), None).await.unwrap();
    assert_eq!((plan.pools.len(), plan.touched.len()), (1, 1));
    assert_eq!(store.pool(LAB).await.unwrap().max_desktops, 3);
    let plan = store.apply_pools("eve", &reach, &wanted(&[], true), None).await.unwrap();
    assert_eq!((plan.pools.len(), plan.relieved), (1, vec![eve]), "no others are pruned");
    let left = store.pools(&Reach::everywhere(), None, 9).await.unwrap();
    assert_eq!(left.into_iter().map(|pool| pool.name).collect::<Vec<_>>(), ["desk", "attic"]);
}
