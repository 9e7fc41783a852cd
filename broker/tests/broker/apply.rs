//! Pools as they should be, applied at once: what was shown is done, or nothing is.

use crate::support::agent::Agent;
use crate::support::viewer::Browser;
use crate::support::{Answer, Server, eventually};
use lucarne_control::api::{AuditEntry, NewPool, Pool};
use lucarne_control::apply::{PlanAction, PoolsPlan};
use serde_json::{Value, json};

fn pool(name: &str) -> Value {
    json!({ "name": name, "image": "debian-desktop", "entitled_groups": ["everyone"] })
}

async fn apply(server: &Server, body: Value) -> Answer {
    server.local().post("/apply", body).await
}

fn actions(plan: &PoolsPlan) -> Vec<(&str, PlanAction)> {
    plan.pools.iter().map(|pool| (pool.pool.as_str(), pool.action)).collect()
}

async fn audit(server: &Server) -> Vec<AuditEntry> {
    server.local().page("/audit?limit=500").await
}

/// As people write it who were shown it.
fn export(pool: &Pool) -> Value {
    let new = NewPool {
        name: pool.name.clone(),
        description: pool.description.clone(),
        image: pool.image.to_string(),
        machine: Some(pool.machine),
        network: pool.network,
        shadow: pool.shadow,
        shadow_control: pool.shadow_control,
        audio: Some(pool.audio),
        clipboard: pool.clipboard,
        recording: pool.recording,
        kind: Default::default(),
        ready: Default::default(),
        limits: Default::default(),
        power: Default::default(),
        placement: Default::default(),
        home: Default::default(),
        snapshots: Default::default(),
        max_desktops: Some(pool.max_desktops),
        entitled_users: pool.entitled_users.clone(),
        entitled_groups: pool.entitled_groups.clone(),
    };
    serde_json::to_value(new).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_is_done_and_hosts_hear_of_it_and_the_second_time_there_is_nothing_to_do() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let mut lab = pool("lab");
    lab["machine"] = json!({ "memory_mib": 2048, "vcpus": 2, "width": 1280, "height": 800 });
    let body = json!({ "pools": [lab, pool("desk")] });
    let dry = |body: &Value| {
        let mut dry = body.clone();
        dry["dry_run"] = true.into();
        dry
    };
    let shown: PoolsPlan = apply(&server, dry(&body)).await.ok();
    assert!(!shown.applied && shown.errors.is_empty());
    assert_eq!(actions(&shown)[0], ("lab", PlanAction::Create));
    let memory = shown.pools[0].changes.iter().find(|c| c.field == "machine.memory_mib").unwrap();
    assert_eq!((&memory.from, &memory.to), (&Value::Null, &json!(2048)));
    server.local().get("/pools/lab").await.problem(404, "pool_not_found");

    let mut really = body.clone();
    really["revision"] = shown.revision.clone().into();
    let done: PoolsPlan = apply(&server, really.clone()).await.ok();
    assert!(done.applied);
    assert_eq!((&done.pools, &done.revision), (&shown.pools, &shown.revision));
    eventually("the host is told of the template", || async {
        agent.desired().unwrap().templates.iter().any(|t| t.machine.memory_mib == 2048).then_some(())
    })
    .await;
    apply(&server, really).await.problem(409, "plan_outdated");

    let before = audit(&server).await;
    let again: PoolsPlan = apply(&server, body).await.ok();
    assert!(again.pools.iter().all(|pool| pool.action == PlanAction::Unchanged), "{again:?}");
    let pools: Vec<Pool> = server.local().page("/pools").await;
    let exported = json!({ "pools": pools.iter().map(export).collect::<Vec<_>>(), "prune": true });
    let same: PoolsPlan = apply(&server, exported).await.ok();
    assert!(same.pools.iter().all(|pool| pool.action == PlanAction::Unchanged), "{same:?}");
    assert_eq!(audit(&server).await, before);

    ada.post("/apply", json!({ "pools": [] })).await.problem(403, "not_permitted");
    server.anyone().post("/apply", json!({ "pools": [] })).await.problem(401, "not_signed_in");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_all_at_once_and_nothing_is_half_applied() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let before = (server.local().page::<Pool>("/pools").await, audit(&server).await);
    let with = |name: &str, field: &str, value: Value| {
        let mut pool = pool(name);
        pool[field] = value;
        pool
    };
    let body = json!({ "pools": [
        pool("good"),
        with("Upper", "max_desktops", 0.into()),
        with("typo", "max_desktop", 5.into()),
        with("deep", "recording", json!({ "mode": "on", "month": 1 })),
        with("wrong", "audio", "loud".into()),
        pool("twice"),
        pool("twice"),
        { "image": "debian-desktop" },
    ] });
    let detail = apply(&server, body).await.problem(400, "invalid_request");
    let lines: Vec<_> = detail.lines().collect();
    let parts = [
        "pool \"Upper\", name: a pool's name is",
        "pool \"Upper\", max_desktops: max_desktops is from 1",
        "pool \"typo\": there is no field max_desktop;",
        "pool \"deep\": there is no field recording.month;",
        "pool \"wrong\": invalid type: string \"loud\"",
        "pool \"twice\" is there twice",
        "pool 8 of the list: missing field `name`",
    ];
    assert_eq!(lines.len(), parts.len(), "{detail}");
    for (line, part) in lines.iter().zip(parts) {
        assert!(line.contains(part), "{part}: {line}");
    }
    for body in [json!({}), json!({ "pools": [], "dryrun": true }), json!([]), json!({ "pools": [7] })] {
        apply(&server, body).await.problem(400, "invalid_request");
    }
    let many: Vec<_> = (0..1001).map(|n| pool(&format!("p{n}"))).collect();
    assert!(apply(&server, json!({ "pools": many })).await.problem(400, "invalid_request").contains("1000"));
    // Larger than other requests may be.
    let large = "x".repeat(5 << 20);
    apply(&server, json!({ "pools": [with("large", "description", large.into())] }))
        .await
        .problem(413, "body_too_large");
    let long = "x".repeat(1 << 20);
    apply(&server, json!({ "pools": [with("long", "description", long.into())] }))
        .await
        .problem(400, "invalid_request");

    // What only the database knows.
    let body = json!({ "pools": [
        pool("good"),
        with("lab", "entitled_users", json!(["nobody", "noone"])),
        with("win", "image", "windows".into()),
        with("desk", "machine", json!({ "memory_mib": 4096, "vcpus": 2, "width": 1280, "height": 800 })),
    ] });
    let mut dry = body.clone();
    dry["dry_run"] = true.into();
    let plan: PoolsPlan = apply(&server, dry).await.ok();
    let errors: Vec<_> = plan
        .errors
        .iter()
        .map(|e| (e.pool.as_str(), e.field.as_deref().unwrap_or_default(), e.code.as_str(), e.status))
        .collect();
    assert_eq!(
        errors,
        [
            ("lab", "entitled_users", "user_not_found", 404),
            ("lab", "entitled_users", "user_not_found", 404),
            ("win", "image", "image_not_found", 404),
            ("desk", "machine", "pool_fixed", 409),
        ]
    );
    let detail = apply(&server, body).await.problem(404, "user_not_found");
    for part in ["\"nobody\"", "\"noone\"", "\"windows\"", "its machine is 1024 MiB"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let other = json!({ "memory_mib": 4096, "vcpus": 2, "width": 1280, "height": 800 });
    let fixed = apply(&server, json!({ "pools": [with("desk", "machine", other)] })).await;
    assert!(fixed.problem(409, "pool_fixed").contains("machine = { memory_mib = 1024"));
    assert_eq!((server.local().page::<Pool>("/pools").await, audit(&server).await), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_listed_is_pruned_unless_it_is_in_use() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let _: PoolsPlan = apply(&server, json!({ "pools": [pool("lab"), pool("old")] })).await.ok();
    let connection = ada.connect("desk").await;
    let left: PoolsPlan = apply(&server, json!({ "pools": [pool("lab")] })).await.ok();
    assert_eq!(actions(&left), [("lab", PlanAction::Unchanged)]);

    let prune = json!({ "pools": [pool("lab"), pool("new")], "prune": true });
    let detail = apply(&server, prune.clone()).await.problem(409, "pool_in_use");
    assert!(detail.contains("\"desk\"") && detail.contains("1 desktop(s)"), "{detail}");
    server.local().get("/pools/new").await.problem(404, "pool_not_found");
    let _: Pool = server.local().get("/pools/old").await.ok();

    let path = format!("/sessions/{}?wait=true", connection.session.id);
    assert_eq!(ada.delete(&path).await.status, 204);
    let done: PoolsPlan = apply(&server, prune).await.ok();
    use PlanAction::{Create, Delete, Unchanged};
    assert_eq!(actions(&done), [("lab", Unchanged), ("new", Create), ("desk", Delete), ("old", Delete)]);
    let names: Vec<String> =
        server.local().page::<Pool>("/pools").await.into_iter().map(|pool| pool.name).collect();
    assert_eq!(names, ["lab", "new"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_entitlement_is_not_listed_any_more_is_cut_and_others_are_not() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let (ada, bob) = (server.user("ada").await, server.user("bob").await);
    let of = |users: &[&str]| {
        json!({ "pools": [{ "name": "desk", "image": "debian-desktop", "entitled_users": users,
            "description": "Debian desktop" }] })
    };
    let plan: PoolsPlan = apply(&server, of(&["ada", "bob"])).await.ok();
    assert_eq!(actions(&plan), [("desk", PlanAction::Change)]);
    let connection = ada.connect("desk").await;
    let mut hers = Browser::view(&server, &connection).await;
    let mut his = Browser::view(&server, &bob.connect("desk").await).await;
    let _: PoolsPlan = apply(&server, of(&["bob"])).await.ok();
    assert_eq!(hers.closed().await, 4007);
    his.echo(b"he still may").await;
    assert!(agent.running().contains(&connection.desktop.id), "her desktop is not taken with it");
    ada.post("/sessions", json!({ "pool": "desk" })).await.problem(403, "not_entitled");
    server.stop().await;
}
