//! Every operation of the API by everybody who could ask for it: roles, narrow tokens, and who has not signed in.

use crate::support::Server;
use crate::support::agent::Agent;
use lucarne_broker::access::{Need, OPERATIONS, need};
use lucarne_control::api::{Permission, Role};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Nothing has this id, this number and this name, so that what is allowed changes nothing.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

fn document() -> Value {
    serde_json::from_str(&lucarne_broker::openapi().to_json().unwrap()).unwrap()
}

/// Each operation of the document: method, path below `/api/v1`.
fn operations() -> BTreeSet<(String, String)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, item)| {
        let path = path.strip_prefix("/api/v1").unwrap().to_owned();
        item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    each.collect()
}

#[test]
fn it_is_said_of_each_operation_what_it_takes_and_of_nothing_else() {
    let said: BTreeSet<_> = OPERATIONS.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(said.len(), OPERATIONS.len(), "one is there twice");
    assert_eq!(said, operations());
    // Each permission is good for something.
    for permission in Permission::ALL {
        assert!(OPERATIONS.iter().any(|(.., need)| one_of(*need).contains(&permission)), "{permission}");
    }
    assert_eq!(need("HEAD", "/api/v1/pools"), need("GET", "/api/v1/pools"));
    assert_eq!(need("PATCH", "/api/v1/pools"), None);
}

/// The permissions of which one is needed.
fn one_of(need: Need) -> &'static [Permission] {
    match need {
        Need::Nothing | Need::SignIn => &[],
        Need::OneOf(these) | Need::Within(these) => these,
    }
}

/// What the operation answers whoever has these permissions, to a request that would be of no effect.
async fn refused(client: &crate::support::Client<'_>, method: &str, path: &str) -> Option<String> {
    let mut path = path.to_owned();
    while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
        path.replace_range(from..=to, NOBODY);
    }
    if path == "/explain" {
        path += "?user=nobody&pool=nothing";
    }
    if path == "/events" {
        // Of what there is there would be a stream without an end.
        path += "?kind=nothing";
    }
    let answer = client.send(method.parse().unwrap(), &format!("/api/v1{path}"), Some(json!({}))).await;
    assert!(
        answer.status.as_u16() < 500 || path.starts_with("/stream"),
        "{method} {path}: {}",
        answer.text()
    );
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = problem["code"].as_str().unwrap_or_default().to_owned();
    matches!(code.as_str(), "not_permitted" | "not_signed_in").then_some(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_its_permissions_say_at_each_operation() {
    let server = Server::start().await;
    let _attic = Agent::start(&server).await;
    let mut wrong = Vec::new();
    for role in Role::ALL {
        let body = json!({ "name": format!("a-{}", role.as_str().replace('_', "-")), "password": "password of one",
            "role": role });
        assert_eq!(server.local().post("/users", body.clone()).await.status, 201);
        for (method, path, need) in OPERATIONS {
            // Each asks anew: to sign out is one of the operations.
            let who = server.sign_in(body["name"].as_str().unwrap(), "password of one").await;
            let expected = match need {
                Need::Nothing | Need::SignIn => None,
                need if one_of(*need).iter().any(|p| role.permissions().contains(p)) => None,
                Need::OneOf(_) | Need::Within(_) => Some("not_permitted".to_owned()),
            };
            let got = refused(&who, method, path).await;
            // What may be asked for may be another's none the less: that is told as if there were none.
            if got != expected {
                wrong.push(format!("{} {method} {path}: {got:?}, not {expected:?}", role.as_str()));
            }
        }
    }
    for (method, path, need) in OPERATIONS {
        let got = refused(&server.anyone(), method, path).await;
        let expected = (*need != Need::Nothing).then(|| "not_signed_in".to_owned());
        if got != expected && !matches!(*path, "/auth/login" | "/auth/token" | "/stream") {
            wrong.push(format!("nobody {method} {path}: {got:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_do_no_more_than_it_was_made_for_nor_than_its_user() {
    let server = Server::start().await;
    let _attic = Agent::start(&server).await;
    let token = async |more: Value| {
        let mut body = json!({ "name": "admin", "password": server.password });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.anyone().post("/auth/token", body).await
    };
    let made = token(json!({ "permissions": ["pools:read", "audit:read"], "valid_for": 3600 })).await;
    let made: lucarne_control::api::Token = made.created();
    let narrow = server.anyone().with("authorization", &format!("Bearer {}", made.token));
    assert_eq!(narrow.get("/pools").await.status, 200);
    assert_eq!(narrow.get("/audit").await.status, 200);
    let why = narrow.get("/hosts").await.problem(403, "not_permitted");
    assert!(why.contains("hosts:read") && why.contains("the token was made for less"), "{why}");
    narrow.post("/sessions", json!({ "pool": "desk" })).await.problem(403, "not_permitted");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = made.expires_at - i64::try_from(now).unwrap();
    assert!((3500..=3600).contains(&left), "{left}");

    token(json!({ "valid_for": 5 })).await.problem(400, "invalid_request");
    let why = token(json!({ "permissions": ["pools:wrong"] })).await.problem(400, "invalid_request");
    assert!(why.contains("pools:wrong"), "{why}");
    server.user("ada").await;
    let body = json!({ "name": "ada", "password": "password of ada", "permissions": ["hosts:read"] });
    let why = server.anyone().post("/auth/token", body).await.problem(403, "not_permitted");
    assert!(why.contains("ada has not hosts:read by the role user"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_is_gone_at_the_next_request_and_somebody_stays_to_give_it_back() {
    let server = Server::start().await;
    let _attic = Agent::start(&server).await;
    let (ada, bob) = (server.user("ada").await, server.user("bob").await);
    let role = async |name: &str, role: &str| {
        server.local().put(&format!("/users/{name}/role"), json!({ "role": role })).await
    };
    bob.get("/desktops").await.ok::<Value>();
    let hers = ada.connect("desk").await;
    let (session, desktop) =
        (format!("/sessions/{}", hers.session.id), format!("/desktops/{}", hers.desktop.id));
    bob.get(&session).await.problem(404, "session_not_found");

    role("bob", "auditor").await.ok::<Value>();
    assert_eq!(bob.get(&session).await.status, 200, "auditors see everything");
    bob.delete(&session).await.problem(403, "not_permitted");
    bob.get(&format!("{desktop}/thumbnail")).await.problem(403, "not_your_desktop");
    let watch = json!({ "reason": "curious" });
    bob.post(&format!("{session}/shadow"), watch).await.problem(403, "not_permitted");

    role("bob", "help_desk").await.ok::<Value>();
    assert_eq!(bob.delete(&session).await.status, 204, "the help desk helps people out");
    bob.get("/audit").await.problem(403, "not_permitted");

    role("bob", "user").await.ok::<Value>();
    bob.get("/users").await.problem(403, "not_permitted");
    role("admin", "user").await.problem(409, "last_administrator");
    role("nobody", "user").await.problem(404, "user_not_found");
    role("bob", "king").await.problem(400, "invalid_request");
    let log: Value = server.local().get("/audit?limit=200").await.ok();
    let changed = log["items"].as_array().unwrap().iter().filter(|e| e["action"] == "user.role_changed");
    let changed: BTreeMap<_, _> =
        changed.map(|e| (e["detail"].to_string(), e["subject"].to_string())).collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
}
