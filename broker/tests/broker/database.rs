//! A backup that is put back: hosts, which are ahead of it, follow it again once somebody says so, and nothing runs twice.

use crate::support::agent::Agent;
use crate::support::{Server, eventually};
use lucarne_broker::database::{self, Where};
use lucarne_control::api::{Desktop, Host, Session, SessionState};
use lucarne_control::desktop::Phase;
use serde_json::json;

#[tokio::test]
async fn hosts_that_are_ahead_of_a_backup_follow_it_only_when_told_and_nothing_runs_twice() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let (kept, ended) = (ada.connect("desk").await, ben.connect("desk").await);
    let file = server.dir.path().join("data/broker.db");
    let backup = server.dir.path().join("backup.db");
    database::back_up(&file, &backup).await.unwrap();
    let twice = database::back_up(&file, &backup).await.unwrap_err().to_string();
    assert!(twice.contains("is there already"), "{twice}");

    // After the backup one desktop ends, and another begins.
    assert_eq!(ben.delete(&format!("/sessions/{}?wait=true", ended.session.id)).await.status, 204);
    let newer = ben.connect("desk").await;
    let dir = server.stop().await;
    database::check(&backup).await.unwrap();
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{log}", file.display()));
    }
    std::fs::copy(&backup, &file).unwrap();
    let server = Server::start_in(dir).await;
    let (agent, reason) = agent.refused_again(&server).await;
    assert!(reason.contains("older than the host") && reason.contains("database restore"), "{reason}");
    assert_eq!(agent.running().len(), 2, "nothing was ended by a database that is older");
    let dir = server.stop().await;

    database::restored(Where::File(&file)).await.unwrap();
    let server = Server::start_in(dir).await;
    let agent = agent.reconnect(&server).await;
    eventually("what the database does not know is gone", || async {
        (agent.running() == [kept.desktop.id]).then_some(())
    })
    .await;
    assert!(!agent.running().contains(&newer.desktop.id));
    let ada = server.sign_in("ada", "password of ada").await;
    assert_eq!(ada.connect("desk").await.desktop.id, kept.desktop.id, "what is on its host goes on");
    let ben = server.sign_in("ben", "password of ben").await;
    let path = format!("/desktops/{}", ended.desktop.id);
    let gone = eventually("what is not on its host any more has failed", || async {
        let gone: Desktop = ben.get(&path).await.ok();
        (gone.phase == Phase::Failed).then_some(gone)
    })
    .await;
    assert!(!agent.running().contains(&gone.id), "it is not made anew");
    assert_ne!(ben.connect("desk").await.desktop.id, ended.desktop.id);
    assert_eq!(agent.running().len(), 2);
}

#[tokio::test]
async fn a_file_that_is_no_backup_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("letters.txt");
    std::fs::write(&file, "not a database, but long enough to be looked at as one").unwrap();
    let wrong = database::check(&file).await.unwrap_err().to_string();
    assert!(wrong.contains("letters.txt"), "{wrong}");
}

#[tokio::test]
async fn a_host_is_declared_dead_by_word_and_its_users_get_fresh_desktops() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let first = ada.connect("desk").await;
    let admin = server.local();
    let seen: Host = admin.get("/hosts/attic").await.ok();
    let word = |epoch: u64, evidence: &str| json!({ "epoch": epoch, "evidence": evidence });
    admin.post("/hosts/attic/fence", word(seen.epoch, "its fan stopped")).await.problem(409, "host_in_use");
    ada.post("/hosts/attic/fence", word(seen.epoch, "out")).await.problem(403, "not_permitted");
    admin.post("/hosts/attic/fence", word(seen.epoch, " ")).await.problem(400, "invalid_request");
    agent.cut();
    eventually("the host is offline", || async {
        (!admin.get("/hosts/attic").await.ok::<Host>().online).then_some(())
    })
    .await;
    let old = admin.post("/hosts/attic/fence", word(seen.epoch - 1, "its fan stopped")).await;
    assert!(old.problem(409, "host_in_use").contains("look again"));
    assert_eq!(admin.post("/hosts/attic/fence", word(seen.epoch, "its fan stopped")).await.status, 204);
    let session: Session = ada.get(&format!("/sessions/{}", first.session.id)).await.ok();
    assert_eq!(session.state, SessionState::Ended);
    let dead: Desktop = ada.get(&format!("/desktops/{}", first.desktop.id)).await.ok();
    assert!(dead.phase == Phase::Failed && dead.detail.contains("its fan stopped"), "{dead:?}");
    // It was not dead after all.
    let agent = agent.reconnect(&server).await;
    eventually("it destroys what it has", || async { agent.running().is_empty().then_some(()) }).await;
    assert_ne!(ada.connect("desk").await.desktop.id, first.desktop.id);
}
