//! Why a user has what they have, or would get what they would get; and hosts that are drained.

use crate::support::Server;
use crate::support::agent::{Agent, Behaviour};
use crate::support::eventually;
use lucarne_control::api::{Explanation, Host};
use serde_json::json;

async fn why(server: &Server, user: &str) -> Explanation {
    server.local().get(&format!("/explain?user={user}&pool=desk")).await.ok()
}

/// The rule that decided, where one refuses.
fn refused(e: &Explanation) -> Option<(&str, &str)> {
    e.rules.iter().find(|rule| !rule.passed).map(|rule| (rule.rule.as_str(), rule.says.as_str()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_happens() {
    let server = Server::start().await;
    let attic = Agent::start(&server).await;
    let cellar =
        Agent::start_with(&server, "cellar", Behaviour { memory_mib: 2048, ..Behaviour::default() }).await;
    let (ada, bob) = (server.user("ada").await, server.user("bob").await);
    ada.get("/explain?user=ada&pool=desk").await.problem(403, "not_permitted");
    server.local().get("/explain?user=nobody&pool=desk").await.problem(404, "user_not_found");
    server.local().get("/explain?user=ada&pool=none").await.problem(404, "pool_not_found");
    server.local().get("/explain?user=ada").await.problem(400, "invalid_request");

    let before = why(&server, "ada").await;
    assert_eq!((before.outcome.as_str(), refused(&before)), ("desktop_made", None));
    assert_eq!((before.hosts_total, before.hosts.len(), before.past.len()), (2, 2, 0));
    let would = before.hosts.iter().find(|host| host.chosen).unwrap();
    let connection = ada.connect("desk").await;
    assert_eq!(connection.desktop.host.as_ref(), Some(&would.host));
    let now = why(&server, "ada").await;
    assert_eq!(now.outcome, "desktop_found");
    assert!(now.says.contains(&connection.desktop.name), "{}", now.says);
    assert_eq!((now.past[0].desktop, now.past[0].ended_at), (connection.desktop.id, None));
    assert_eq!(now.past[0].placed.as_deref(), Some("0 % of its memory is promised, of 2 hosts that fit"));

    // Drained hosts keep what they have, and get no more.
    for host in ["attic", "cellar"] {
        assert_eq!(server.local().put(&format!("/hosts/{host}/drain"), json!({})).await.status, 204);
        let seen: Host = server.local().get(&format!("/hosts/{host}")).await.ok();
        assert!(seen.drained && seen.online);
    }
    assert_eq!(ada.connect("desk").await.desktop.id, connection.desktop.id);
    let nowhere = why(&server, "bob").await;
    assert_eq!(
        (nowhere.outcome.as_str(), refused(&nowhere)),
        ("no_host", Some(("host", "0 of 2 hosts can take a desktop")))
    );
    let detail = bob.post("/sessions", json!({ "pool": "desk" })).await.problem(503, "no_host");
    assert!(detail.contains("attic: it is drained") && detail.contains("cellar: it is drained"), "{detail}");
    assert!(nowhere.hosts.iter().all(|host| !host.fits && host.says.contains("it is drained")));
    assert_eq!(server.local().delete("/hosts/cellar/drain").await.status, 204);
    let there = bob.connect("desk").await;
    assert_eq!(there.desktop.host.as_deref(), Some("cellar"));
    ada.put("/hosts/cellar/drain", json!({})).await.problem(403, "not_permitted");

    // A desktop that died, and what came of it.
    let on = if connection.desktop.host.as_deref() == Some("attic") { &attic } else { &cellar };
    on.kill(connection.desktop.id, "its disk is full");
    let told = eventually("its end is known", async || {
        let now = why(&server, "ada").await;
        now.past[0].end_reason.clone().filter(|reason| reason.contains("its disk is full"))
    })
    .await;
    assert!(told.contains("its disk is full"), "{told}");

    // And who may not.
    assert_eq!(server.local().delete("/pools/desk/groups/everyone").await.status, 204);
    let never = why(&server, "ada").await;
    assert_eq!((never.outcome.as_str(), refused(&never).map(|r| r.0)), ("not_entitled", Some("entitlement")));
    server.stop().await;
}
