//! Roles that hold for one pool or one group only: how they are given and shown, and what rests on them.

use crate::support::agent::Agent;
use crate::support::viewer::Browser;
use crate::support::{Answer, Client, Server};
use lucarne_control::api::{AuditEntry, Connection, Desktop, Pool, Session, Token, User, UserRoles};
use lucarne_control::events::Event;
use serde_json::{Value, json};

async fn pool(server: &Server, name: &str) -> Pool {
    let body = json!({ "name": name, "image": "debian-desktop", "entitled_groups": ["everyone"],
        "shadow": "with_notice" });
    server.local().post("/pools", body).await.created()
}

/// `scope` as `pools/NAME` or `groups/NAME`.
async fn give(server: &Server, user: &str, role: &str, scope: &str) {
    let path = format!("/users/{user}/roles/{role}/{scope}");
    let given = server.local().put(&path, json!({})).await;
    assert_eq!(given.status, 204, "{}", given.text());
}

async fn take(server: &Server, user: &str, role: &str, scope: &str) {
    let taken = server.local().delete(&format!("/users/{user}/roles/{role}/{scope}")).await;
    assert_eq!(taken.status, 204, "{}", taken.text());
}

async fn join(server: &Server, user: &str, group: &str) {
    assert_eq!(server.local().put(&format!("/users/{user}/groups/{group}"), json!({})).await.status, 204);
}

/// Ids, or names, of a list.
async fn named(client: &Client<'_>, path: &str, field: &str) -> Vec<String> {
    let items: Vec<Value> = client.page(path).await;
    items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn scoped_roles_are_given_shown_and_taken_and_go_with_their_pool() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (local, eve) = (server.local(), server.user("eve").await);
    let lab = pool(&server, "lab").await;
    for _ in 0..2 {
        give(&server, "eve", "operator", "pools/lab").await;
    }
    give(&server, "eve", "help_desk", "groups/everyone").await;
    let me: User = eve.get("/me").await.ok();
    let said: Vec<_> = me.scoped_roles.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["operator for the pool lab", "help_desk for the group everyone"]);
    let roles: UserRoles = local.get("/users/eve/roles").await.ok();
    assert_eq!((roles.role, &roles.scoped_roles), (me.role, &me.scoped_roles));
    assert_eq!(roles.scoped_roles[0].id, lab.id.0);
    let listed: Vec<User> = local.page("/users").await;
    assert!(listed.contains(&me));

    let put = async |path: &str| local.put(&format!("/users/{path}"), json!({})).await;
    let why = put("eve/roles/administrator/pools/lab").await.problem(400, "invalid_request");
    assert!(why.contains("give themselves the rest"), "{why}");
    put("eve/roles/user/groups/everyone").await.problem(400, "invalid_request");
    put("eve/roles/king/pools/lab").await.problem(400, "invalid_request");
    put("eve/roles/auditor/pools/cellar").await.problem(404, "pool_not_found");
    put("eve/roles/auditor/groups/crew").await.problem(404, "group_not_found");
    put("nobody/roles/auditor/pools/lab").await.problem(404, "user_not_found");
    // Who has everything of a pool makes nobody anything.
    let own = eve.put("/users/eve/roles/operator/pools/desk", json!({})).await;
    own.problem(403, "not_permitted");

    take(&server, "eve", "help_desk", "groups/everyone").await;
    take(&server, "eve", "help_desk", "groups/everyone").await;
    assert_eq!(eve.get("/pools/lab").await.status, 200);
    assert_eq!(eve.delete("/pools/lab").await.status, 204);
    eve.get("/pools").await.problem(403, "not_permitted");
    assert!(eve.get("/me").await.ok::<User>().scoped_roles.is_empty());
    let log: Vec<AuditEntry> = local.page("/audit?limit=500").await;
    let log: Vec<_> = log.iter().filter(|e| e.action.starts_with("user.scoped_role")).collect();
    let said: Vec<_> = log.iter().map(|e| (e.actor.as_str(), e.action.as_str(), e.detail.as_str())).collect();
    let (given, taken) = ("user.scoped_role_given", "user.scoped_role_taken");
    assert_eq!(
        said,
        [
            ("admin (local)", given, "operator for the pool lab"),
            ("admin (local)", given, "help_desk for the group everyone"),
            ("admin (local)", taken, "help_desk for the group everyone"),
            ("eve", taken, "operator for the pool lab, which was deleted"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_one_pool_runs_that_one_and_knows_of_no_other() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "lab").await;
    pool(&server, "attic").await;
    let (eve, ada) = (server.user("eve").await, server.user("ada").await);
    give(&server, "eve", "operator", "pools/lab").await;
    let (lab, attic) = (ada.connect("lab").await, ada.connect("attic").await);
    assert_eq!(named(&eve, "/pools", "name").await, ["lab"]);
    assert_eq!(named(&eve, "/desktops", "id").await, [lab.desktop.id.to_string()]);
    assert_eq!(named(&eve, "/sessions?all=true", "id").await, [lab.session.id.to_string()]);
    assert!(named(&eve, "/sessions", "id").await.is_empty(), "she has none of her own");

    let missing = |answer: Answer| answer.problem(404, "pool_not_found");
    // What is not hers is as what is not there, word for word.
    assert_eq!(
        missing(eve.get("/pools/attic").await).replace("attic", "cellar"),
        missing(eve.get("/pools/cellar").await)
    );
    missing(eve.delete("/pools/attic?force=true").await);
    missing(eve.put("/pools/attic/users/eve", json!({})).await);
    missing(eve.get("/explain?user=ada&pool=attic").await);
    missing(eve.post("/desktops", json!({ "pool": "attic", "user": "ada" })).await);
    eve.get(&format!("/desktops/{}", attic.desktop.id)).await.problem(404, "desktop_not_found");
    eve.delete(&format!("/sessions/{}", attic.session.id)).await.problem(404, "session_not_found");
    let why = eve.post("/pools", json!({ "name": "new", "image": "debian-desktop" })).await;
    let why = why.problem(403, "not_permitted");
    assert!(why.contains("pools:write everywhere"), "{why}");
    eve.get("/users").await.problem(403, "not_permitted");

    let plan = async |names: &[&str]| {
        let new = |name| json!({ "name": name, "image": "debian-desktop", "max_desktops": 5 });
        let pools: Vec<_> = names.iter().map(new).collect();
        eve.post("/apply", json!({ "pools": pools, "prune": true, "dry_run": true })).await
    };
    let why = plan(&["lab", "attic"]).await.problem(403, "not_permitted");
    assert!(why.contains("\"attic\" is not among them"), "{why}");
    plan(&["new"]).await.problem(403, "not_permitted");
    assert_eq!(plan(&["lab"]).await.ok::<Value>()["pools"].as_array().unwrap().len(), 1);
    eve.get("/explain?user=ada&pool=lab").await.ok::<Value>();
    let own: Desktop = eve
        .clone()
        .with("idempotency-key", "once")
        .post("/desktops", json!({ "pool": "lab", "user": "eve" }))
        .await
        .created();
    assert_eq!(named(&eve, "/desktops", "id").await.len(), 2);
    assert_eq!(eve.delete(&format!("/desktops/{}", own.id)).await.status, 202);
    // It is in her scope to end it, and not to look.
    let watch = format!("/sessions/{}/shadow", lab.session.id);
    eve.post(&watch, json!({})).await.problem(403, "not_permitted");
    assert_eq!(eve.delete(&format!("/sessions/{}", lab.session.id)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_helps_a_group_helps_its_members_in_whichever_pool() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (eve, ada, ben) = (server.user("eve").await, server.user("ada").await, server.user("ben").await);
    for (user, group) in [("ada", "staff"), ("eve", "crew"), ("ben", "crew")] {
        join(&server, user, group).await;
    }
    give(&server, "eve", "help_desk", "groups/staff").await;
    let (hers, his) = (ada.connect("desk").await, ben.connect("desk").await);
    assert_eq!(named(&eve, "/users", "name").await, ["ada"]);
    assert_eq!(named(&eve, "/groups", "name").await, ["staff"]);
    assert_eq!(named(&eve, "/desktops", "id").await, [hers.desktop.id.to_string()]);
    eve.get("/pools").await.problem(403, "not_permitted");
    assert_eq!(eve.get("/users/ada").await.status, 200);
    eve.get("/users/ben").await.problem(404, "user_not_found");
    eve.get("/users/ben/roles").await.problem(404, "user_not_found");
    eve.get("/explain?user=ada&pool=desk").await.ok::<Value>();
    eve.get("/explain?user=ben&pool=desk").await.problem(404, "user_not_found");
    eve.get("/explain?user=ben&pool=cellar").await.problem(404, "user_not_found");
    eve.post("/desktops", json!({ "pool": "desk", "user": "ben" })).await.problem(404, "user_not_found");
    eve.get(&format!("/sessions/{}", his.session.id)).await.problem(404, "session_not_found");
    assert_eq!(eve.get(&format!("/sessions/{}", hers.session.id)).await.status, 200);
    // Who leaves is helped by others.
    assert_eq!(server.local().delete("/users/ada/groups/staff").await.status, 204);
    eve.get(&format!("/sessions/{}", hers.session.id)).await.problem(404, "session_not_found");
    assert!(named(&eve, "/desktops", "id").await.is_empty());
    give(&server, "eve", "auditor", "groups/everyone").await;
    assert_eq!(named(&eve, "/desktops", "id").await.len(), 2);
    eve.delete(&format!("/sessions/{}", hers.session.id)).await.problem(403, "not_permitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_of_a_scoped_role_what_it_was_made_for() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (eve, ada) = (server.user("eve").await, server.user("ada").await);
    give(&server, "eve", "help_desk", "pools/desk").await;
    let token = async |permissions: Value| {
        let body = json!({ "name": "eve", "password": "password of eve", "permissions": permissions });
        server.anyone().post("/auth/token", body).await
    };
    token(json!(["pools:write"])).await.problem(403, "not_permitted");
    let made: Token = token(json!(["desktops:read"])).await.created();
    let narrow = server.anyone().with("authorization", &format!("Bearer {}", made.token));
    let (hers, own) = (ada.connect("desk").await, eve.connect("desk").await);
    let path = format!("/sessions/{}", hers.session.id);
    assert_eq!(narrow.get(&path).await.status, 200);
    narrow.delete(&path).await.problem(403, "not_permitted");
    let why = narrow.get("/pools").await.problem(403, "not_permitted");
    assert!(why.contains("the token was made for less"), "{why}");
    narrow.get("/sessions").await.problem(403, "not_permitted");
    let mut seen = named(&narrow, "/sessions?all=true", "id").await;
    seen.sort();
    let mut both = [hers.session.id.to_string(), own.session.id.to_string()];
    both.sort();
    assert_eq!(seen, both);
    assert_eq!(eve.delete(&path).await.status, 204);
    // It holds as long as the role does.
    take(&server, "eve", "help_desk", "pools/desk").await;
    narrow.get(&format!("/sessions/{}", own.session.id)).await.problem(403, "not_permitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_over_what_is_within() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "lab").await;
    let eve = server.user("eve").await;
    give(&server, "eve", "auditor", "pools/lab").await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let user = server.user(&format!("u{n}")).await;
        let connection = user.connect(["lab", "desk"][n % 2]).await;
        if n % 2 == 0 {
            expected.push(connection.desktop.id.to_string());
        }
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page: Value = eve.get(&format!("/desktops?limit=2&after={after}")).await.ok();
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(items.len(), 2, "a page is full where there is another");
        after = next.to_owned();
    }
    assert_eq!(seen, expected);
}

fn session(event: &Event) -> Option<Session> {
    if let Event::Session { state, .. } = event { Some(Session::clone(state)) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_by_a_scoped_role_is_told_of_what_is_within_until_that_changes() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "lab").await;
    let (eve, ada, ben) = (server.user("eve").await, server.user("ada").await, server.user("ben").await);
    eve.open("?kind=pool", None).await.err().unwrap().problem(403, "not_permitted");
    give(&server, "eve", "help_desk", "pools/lab").await;
    let attic = json!({ "name": "attic", "image": "debian-desktop" });
    assert_eq!(server.local().post("/pools", attic).await.status, 201);
    eve.open("?pool=attic&kind=pool", None).await.err().unwrap().problem(404, "pool_not_found");
    let mut watching = eve.watch("?kind=session,pool").await;
    ada.connect("desk").await;
    let hers = ben.connect("lab").await;
    let first = watching.until("a session", session).await;
    assert_eq!(first.id, hers.session.id, "what was told of the other would have come before");
    take(&server, "eve", "help_desk", "pools/lab").await;
    let rest = watching.rest().await;
    assert!(matches!(rest.last(), Some(Event::Reset { .. })), "{rest:?}");
    let others = |event: &Event| matches!(event, Event::Pool { state: Some(pool), .. } if pool.name != "lab");
    assert!(!rest.iter().any(others), "{rest:?}");

    join(&server, "ada", "staff").await;
    give(&server, "eve", "help_desk", "groups/staff").await;
    let mut watching = eve.watch("?kind=session,user").await;
    ben.delete(&format!("/sessions/{}", hers.session.id)).await;
    let adas: Connection = ada.post("/sessions", json!({ "pool": "lab" })).await.created();
    assert_eq!(watching.until("a member's session", session).await.id, adas.session.id);
    // Who comes into the group brings what they have: that is in the lists, and not told one by one.
    join(&server, "ben", "staff").await;
    let rest = watching.rest().await;
    assert!(matches!(rest.last(), Some(Event::Reset { .. })), "{rest:?}");
    assert!(rest.iter().filter_map(session).all(|s| s.user == "ada"), "{rest:?}");
    let mut back = eve.watch_again("?kind=session,user", &watching.last_id).await;
    assert!(matches!(back.next().await, Some(Event::Reset { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_watch_any_more_is_cut_off() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "lab").await;
    let (eve, ada) = (server.user("eve").await, server.user("ada").await);
    let connection = ada.connect("lab").await;
    let path = format!("/sessions/{}/shadow", connection.session.id);
    join(&server, "ada", "staff").await;
    let withdrawals = [
        ("pools/lab", "DELETE", "/users/eve/roles/help_desk/pools/lab"),
        ("groups/staff", "DELETE", "/users/ada/groups/staff"),
    ];
    for (scope, method, withdrawal) in withdrawals {
        eve.post(&path, json!({})).await.problem(403, "not_permitted");
        give(&server, "eve", "help_desk", scope).await;
        let mut shadow = Browser::told(&server, &eve.post(&path, json!({})).await.created()).await;
        let sent = server.local().send(method.parse().unwrap(), &format!("/api/v1{withdrawal}"), None).await;
        assert_eq!(sent.status, 204);
        assert_eq!((shadow.closed().await, &*shadow.reason), (4004, "the server ended this viewer"));
    }
}
