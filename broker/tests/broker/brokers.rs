//! Two brokers on one PostgreSQL database: what is asked of one is so for both, and what one loses the other takes up.

use crate::support::agent::Agent;
use crate::support::viewer::Browser;
use crate::support::{Server, config, eventually};
use lucarne_control::api::{Desktop, Host, Pool, Session, SessionState};
use lucarne_control::desktop::Phase;
use lucarne_postgres::Server as Postgres;
use serde_json::json;
use std::sync::Arc;

/// Runs a test with two brokers. The database's own client must not be used within a runtime.
fn with_two<F: Future<Output = ()>>(test: impl FnOnce(Server, Server) -> F) {
    let postgres = Postgres::get().unwrap();
    let database = postgres.database().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let first = start(&database.url()).await;
        let second = start(&database.url()).await;
        test(first, second).await;
    });
    // Their connections end with their threads, before the database does.
    drop(runtime);
}

async fn start(database: &str) -> Server {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let config = lucarne_broker::Config { database: Some(database.to_owned()), ..config(dir.path()) };
    Server::start_with(dir, config).await
}

#[test]
fn a_desktop_is_the_same_through_either_broker_and_its_viewers_hear_of_what_the_other_does() {
    with_two(|one, two| async move {
        // The host is linked to the first only.
        let agent = Agent::start(&one).await;
        let ada_at_one = one.user("ada").await;
        let ada_at_two = two.sign_in("ada", "password of ada").await;
        let through_two = ada_at_two.connect("desk").await;
        let through_one = ada_at_one.connect("desk").await;
        assert_eq!(through_one.session.id, through_two.session.id);
        assert_eq!(agent.running(), [through_one.desktop.id]);
        let mut browser = Browser::view(&one, &through_one).await;
        browser.echo(b"typed through the first").await;

        // Taken over through the second.
        let mut taken = Browser::view(&two, &through_two).await;
        taken.echo(b"typed through the second").await;
        assert_eq!(browser.closed().await, 4003, "it is used from elsewhere");
        let session: Session = ada_at_one.get(&format!("/sessions/{}", through_one.session.id)).await.ok();
        assert_eq!(session.state, SessionState::Connected);

        // Logged off through the first.
        let path = format!("/sessions/{}?wait=true", through_one.session.id);
        assert_eq!(ada_at_one.delete(&path).await.status, 204);
        assert_eq!(taken.closed().await, 4001, "logged off");
        assert_eq!(agent.running(), []);
        let gone: Desktop = ada_at_two.get(&format!("/desktops/{}", through_one.desktop.id)).await.ok();
        assert_eq!(gone.phase, Phase::Stopped);
        one.stop().await;
        two.stop().await;
    });
}

#[test]
fn a_host_whose_broker_stops_goes_on_with_the_other_and_its_stream_goes_on() {
    with_two(|one, two| async move {
        let agent = Agent::start(&one).await;
        let ada = two.user("ada").await;
        let connection = ada.connect("desk").await;
        let mut browser = Browser::view(&two, &connection).await;
        browser.echo(b"before").await;
        one.stop().await;
        let host: Host = ada_sees_the_host(&two, false).await;
        assert!(!host.online);
        let lost: Desktop = ada.get(&format!("/desktops/{}", connection.desktop.id)).await.ok();
        assert_eq!(lost.phase, Phase::Lost);
        browser.echo(b"the stream does not pass through the broker that stopped").await;
        let agent = agent.reconnect(&two).await;
        assert!(ada_sees_the_host(&two, true).await.online);
        let again = ada.connect("desk").await;
        assert_eq!((again.desktop.id, again.session.id), (connection.desktop.id, connection.session.id));
        browser.echo(b"after").await;
        assert_eq!(agent.running(), [connection.desktop.id]);
        two.stop().await;
    });
}

async fn ada_sees_the_host(server: &Server, online: bool) -> Host {
    eventually("the host's link is on record", || async {
        let host: Host = server.local().get("/hosts/attic").await.ok();
        (host.online == online).then_some(host)
    })
    .await
}

#[test]
fn a_pool_made_through_one_is_made_ready_by_hosts_of_the_other() {
    with_two(|one, two| async move {
        let agent = Agent::start(&one).await;
        let pool = json!({ "name": "large", "image": "debian-desktop", "machine":
            { "memory_mib": 2048, "vcpus": 2, "width": 1280, "height": 800 } });
        assert_eq!(two.local().post("/pools", pool).await.status, 201);
        eventually("the host is told of its template", || async {
            agent.desired().unwrap().templates.iter().any(|t| t.machine.memory_mib == 2048).then_some(())
        })
        .await;
        one.stop().await;
        two.stop().await;
    });
}

#[test]
fn a_stream_whose_entitlement_is_taken_away_is_cut_through_whichever_broker_it_goes() {
    with_two(|one, two| async move {
        let agent = Agent::start(&one).await;
        let (admin, ada) = (one.local(), two.user("ada").await);
        let put = async |path: &str| assert_eq!(admin.put(path, json!({})).await.status, 204, "{path}");
        let delete = async |path: &str| assert_eq!(admin.delete(path).await.status, 204, "{path}");
        // By her name, by a group, and by the group of everyone.
        put("/pools/desk/users/ada").await;
        put("/pools/desk/groups/staff").await;
        put("/users/ada/groups/staff").await;
        let connection = ada.connect("desk").await;
        let mut browser = Browser::view(&two, &connection).await;
        let bob = two.user("bob").await;
        let mut his = Browser::view(&two, &bob.connect("desk").await).await;
        delete("/pools/desk/users/ada").await;
        delete("/pools/desk/groups/everyone").await;
        // All streams there have been looked at when his is cut.
        assert_eq!(his.closed().await, 4007);
        browser.echo(b"she may still, as a member of the staff").await;
        delete("/users/ada/groups/staff").await;
        assert_eq!(browser.closed().await, 4007);
        assert_eq!(browser.reason, "an administrator has withdrawn this desktop");
        ada.post("/sessions", json!({ "pool": "desk" })).await.problem(403, "not_entitled");
        let ticket = format!("/sessions/{}/ticket", connection.session.id);
        ada.post(&ticket, json!({})).await.problem(403, "not_entitled");
        let picture = format!("/desktops/{}/thumbnail", connection.desktop.id);
        ada.get(&picture).await.problem(403, "not_entitled");
        assert!(agent.running().contains(&connection.desktop.id), "her desktop is not taken with it");
        put("/pools/desk/groups/everyone").await;
        let again = ada.connect("desk").await;
        assert_eq!(again.desktop.id, connection.desktop.id);
        Browser::view(&two, &again).await.echo(b"and back").await;

        let mut pool: Pool = admin.get("/pools/desk").await.ok();
        assert_eq!(
            (pool.entitled_users.len(), pool.entitled_groups.as_slice()),
            (0, &["everyone".to_owned(), "staff".to_owned()][..])
        );
        delete("/pools/desk/groups/staff").await;
        delete("/pools/desk/groups/staff").await;
        pool = admin.get("/pools/desk").await.ok();
        assert_eq!(pool.entitled_groups, ["everyone"]);
        admin.put("/pools/desk/users/nobody", json!({})).await.problem(404, "user_not_found");
        admin.delete("/pools/desk/groups/nobody").await.problem(404, "group_not_found");
        admin.put("/pools/none/groups/staff", json!({})).await.problem(404, "pool_not_found");
        admin.put("/pools/desk/groups/a%20b", json!({})).await.problem(400, "invalid_request");
        admin.delete("/users/ada/groups/everyone").await.problem(409, "group_in_use");
        ada.put("/pools/desk/users/ada", json!({})).await.problem(403, "not_permitted");
        one.stop().await;
        two.stop().await;
    });
}
