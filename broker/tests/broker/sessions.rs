//! Connect, reconnect, log off: what users get, and what is left of it, with an agent that speaks the real protocol.

use crate::support::agent::{Agent, Behaviour};
use crate::support::{Server, eventually};
use lucarne_control::agent::{Desired, TemplateState};
use lucarne_control::api::{AuditEntry, Availability, Connection, Desktop, Session, SessionState};
use lucarne_control::desktop::{DesiredState, Phase};
use serde_json::json;

async fn audit(server: &Server) -> Vec<AuditEntry> {
    server.local().page("/audit?limit=500").await
}

#[tokio::test]
async fn two_users_get_two_desktops_and_each_gets_their_own_again() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let first = ada.connect("desk").await;
    let second = ben.connect("desk").await;
    assert_ne!(first.desktop.id, second.desktop.id);
    assert_ne!(first.desktop.mac, second.desktop.mac);
    let again = ada.connect("desk").await;
    assert_eq!((again.desktop.id, again.session.id), (first.desktop.id, first.session.id));
    assert_ne!(again.ticket, first.ticket);
    assert_eq!(agent.running().len(), 2);
    let identities = agent.desired().unwrap().desktops.into_iter().map(|d| d.identity);
    let mut ids: Vec<_> = identities.flat_map(|i| [i.machine_id, i.hostname, i.mac]).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "no identity is shared");
}

#[tokio::test]
async fn a_logged_off_desktop_is_destroyed_and_never_given_to_anyone() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let first = ada.connect("desk").await;
    let path = format!("/sessions/{}", first.session.id);
    assert_eq!(ada.delete(&format!("{path}?wait=true")).await.status, 204);
    assert_eq!(agent.running(), [], "gone when the answer is there");
    ada.post(&format!("{path}/ticket"), json!({})).await.problem(410, "session_ended");
    assert_eq!(ada.delete(&path).await.status, 204, "logging off twice is no error");
    let (fresh, others) = (ada.connect("desk").await, ben.connect("desk").await);
    assert!(![fresh.desktop.id, others.desktop.id].contains(&first.desktop.id));
    let live: Vec<Desktop> = server.local().page("/desktops").await;
    assert_eq!(live.len(), 2);
    let all: Vec<Desktop> = server.local().page("/desktops?all=true").await;
    assert_eq!(all.iter().find(|d| d.id == first.desktop.id).unwrap().phase, Phase::Stopped);
    let sessions: Vec<Session> = ada.page("/sessions").await;
    assert_eq!(sessions.iter().map(|s| s.id).collect::<Vec<_>>(), [fresh.session.id]);
    let sessions: Vec<Session> = server.local().page("/sessions?all=true&ended=true").await;
    assert_eq!(sessions.len(), 3);
    let log = audit(&server).await;
    let of = |action: &str| log.iter().find(|e| e.action == action && e.subject == first.desktop.name);
    assert_eq!(of("desktop.ended").unwrap().actor, "ada");
    assert!(of("desktop.destroyed").unwrap().detail.contains("attic confirmed"));
}

#[tokio::test]
async fn a_placement_is_kept_until_the_host_confirms_the_destruction() {
    let server = Server::start().await;
    let agent = Agent::start_with(&server, "attic", Behaviour { keeps: true, ..Behaviour::default() }).await;
    let ada = server.user("ada").await;
    let first = ada.connect("desk").await;
    assert_eq!(ada.delete(&format!("/sessions/{}", first.session.id)).await.status, 204);
    let absent = || async {
        let desired = agent.desired()?;
        desired
            .desktops
            .iter()
            .find(|d| d.desktop == first.desktop.id && d.state == DesiredState::Absent)
            .map(drop)
    };
    eventually("the host is told to destroy it", absent).await;
    let path = format!("/desktops/{}", first.desktop.id);
    assert_eq!(server.local().get(&path).await.ok::<Desktop>().phase, Phase::Stopping);
    assert_eq!(ada.card().await.desktop, None, "it is the user's no more");
    agent.behave(|b| b.keeps = false);
    eventually("the destruction is on record", || async {
        (server.local().get(&path).await.ok::<Desktop>().phase == Phase::Stopped).then_some(())
    })
    .await;
    eventually("the host is not asked for it any more", || async {
        agent.desired().unwrap().desktops.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_host_does_not_list_and_should_not_have_is_confirmed_as_gone() {
    let server = Server::start().await;
    let agent = Agent::start_with(&server, "attic", Behaviour { keeps: true, ..Behaviour::default() }).await;
    let ada = server.user("ada").await;
    let first = ada.connect("desk").await;
    agent.cut();
    let path = format!("/desktops/{}", first.desktop.id);
    eventually("the host is lost", || async {
        (server.local().get(&path).await.ok::<Desktop>().phase == Phase::Lost).then_some(())
    })
    .await;
    assert_eq!(ada.delete(&format!("/sessions/{}", first.session.id)).await.status, 204);
    drop(agent);
    // The host lost the desktop on its own, and comes back without it.
    let _back = Agent::start(&server).await;
    eventually("the destruction is on record", || async {
        (server.local().get(&path).await.ok::<Desktop>().phase == Phase::Stopped).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cut_off_host_loses_nothing_and_its_desktops_are_there_when_it_is_back() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let first = ada.connect("desk").await;
    agent.cut();
    eventually("the card says that the host is lost", || async {
        let card = ada.card().await;
        (card.availability == Availability::Unavailable && card.desktop?.phase == Phase::Lost).then_some(())
    })
    .await;
    let detail = ada.post("/sessions", json!({ "pool": "desk" })).await.problem(503, "no_host");
    assert!(detail.contains("attic"), "{detail}");
    let _agent = agent.reconnect(&server).await;
    let again = ada.connect("desk").await;
    assert_eq!((again.desktop.id, again.session.id), (first.desktop.id, first.session.id));
}

#[tokio::test]
async fn a_restarted_broker_takes_up_what_runs_with_the_same_generation() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let password = server.password.clone();
    let first = server.user("ada").await.connect("desk").await;
    let before = agent.desired().unwrap();
    let server = Server::start_in(server.stop().await).await;
    assert_eq!(server.password, password, "the first password is in use until it is changed");
    let agent = agent.reconnect(&server).await;
    let ada = server.sign_in("ada", "password of ada").await;
    let again = ada.connect("desk").await;
    assert_eq!((again.desktop.id, again.session.id), (first.desktop.id, first.session.id));
    let after = agent.desired().unwrap();
    let told = |d: &Desired| d.desktops.iter().map(|d| (d.desktop, d.generation)).collect::<Vec<_>>();
    assert_eq!(told(&after), told(&before));
    assert!((after.epoch, after.revision) > (before.epoch, before.revision));
    assert!(!after.desktops[0].fresh, "it is not made anew");
    assert_eq!(agent.running(), [first.desktop.id]);
}

#[tokio::test]
async fn a_failed_fork_says_why_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let reason = "no space left on the disk of attic";
    let behaviour = Behaviour { fork_fails: Some(reason.to_owned()), ..Behaviour::default() };
    let agent = Agent::start_with(&server, "attic", behaviour).await;
    let ada = server.user("ada").await;
    let detail = ada.post("/sessions", json!({ "pool": "desk" })).await.problem(503, "desktop_failed");
    assert!(detail.contains(reason), "{detail}");
    eventually("nothing is left", || async {
        let live: Vec<Desktop> = server.local().page("/desktops").await;
        (live.is_empty() && agent.running().is_empty()).then_some(())
    })
    .await;
    agent.behave(|b| b.fork_fails = None);
    let fresh = ada.connect("desk").await;
    let log = audit(&server).await;
    let assigned = log.iter().rfind(|e| e.action == "desktop.assigned").unwrap();
    assert_eq!(assigned.subject, fresh.desktop.name);
    assert!(assigned.detail.contains(reason), "{}", assigned.detail);
}

#[tokio::test]
async fn a_desktop_that_died_is_replaced_by_a_fresh_one() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let first = ada.connect("desk").await;
    agent.kill(first.desktop.id, "the guest's kernel died");
    eventually("the session has ended", || async {
        let session: Session = ada.get(&format!("/sessions/{}", first.session.id)).await.ok();
        (session.state == SessionState::Ended).then_some(())
    })
    .await;
    let fresh = ada.connect("desk").await;
    assert_ne!(fresh.desktop.id, first.desktop.id);
    let old: Desktop = ada.get(&format!("/desktops/{}", first.desktop.id)).await.ok();
    assert_eq!((old.phase, old.detail.as_str()), (Phase::Failed, "the guest's kernel died"));
}

#[tokio::test]
async fn while_the_template_is_made_a_connect_is_accepted_with_progress_and_makes_one_desktop() {
    let server = Server::start().await;
    let building = Behaviour {
        template: TemplateState::Building,
        template_detail: "waiting for the desktop to be painted".to_owned(),
        progress: 40,
        ..Behaviour::default()
    };
    let agent = Agent::start_with(&server, "attic", building).await;
    let ada = server.user("ada").await;
    let card = ada.card().await;
    assert_eq!((card.availability, card.progress), (Availability::Preparing, Some(40)));
    let ask = || ada.post("/sessions", json!({ "pool": "desk" }));
    let first: Connection = ask().await.accepted();
    assert_eq!((first.ticket, first.progress), (None, Some(40)));
    assert!(first.detail.contains("waiting for the desktop to be painted"), "{}", first.detail);
    let second: Connection = ask().await.accepted();
    assert_eq!(second.desktop.id, first.desktop.id);
    agent.behave(|b| b.template = TemplateState::Ready);
    let third = eventually("the desktop is there", || async {
        let answer = ask().await;
        (answer.status == 201).then(|| answer.created::<Connection>())
    })
    .await;
    assert_eq!(third.desktop.id, first.desktop.id);
    assert_eq!(agent.running(), [first.desktop.id]);
}

#[tokio::test]
async fn a_template_that_cannot_be_made_is_the_reason_given() {
    let server = Server::start().await;
    let failed = Behaviour {
        template: TemplateState::Failed,
        template_detail: "the guest never painted".to_owned(),
        ..Behaviour::default()
    };
    let _agent = Agent::start_with(&server, "attic", failed).await;
    let ada = server.user("ada").await;
    let detail = ada.post("/sessions", json!({ "pool": "desk" })).await.problem(503, "desktop_failed");
    assert!(detail.contains("the guest never painted"), "{detail}");
    let live: Vec<Desktop> = server.local().page("/desktops?all=true").await;
    assert_eq!(live, [], "nothing was made for it");
}

#[tokio::test]
async fn a_full_host_and_a_full_pool_are_told_apart() {
    let server = Server::start().await;
    let small = Behaviour { memory_mib: 1024, ..Behaviour::default() };
    let _agent = Agent::start_with(&server, "attic", small).await;
    let pool = json!({ "name": "tiny", "image": "debian-desktop", "max_desktops": 1, "entitled_groups": ["everyone"] });
    assert_eq!(server.local().post("/pools", pool).await.status, 201);
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    ada.connect("tiny").await;
    ben.post("/sessions", json!({ "pool": "tiny" })).await.problem(409, "pool_full");
    ada.connect("desk").await;
    let detail = ben.post("/sessions", json!({ "pool": "desk" })).await.problem(503, "no_host");
    assert!(detail.contains("2048 of 2048 MiB"), "{detail}");
}

#[tokio::test]
async fn only_the_entitled_get_a_desktop() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let pool = json!({ "name": "lab", "image": "debian-desktop", "entitled_users": ["ada"], "entitled_groups": ["staff"] });
    assert_eq!(server.local().post("/pools", pool).await.status, 201);
    ada.connect("lab").await;
    ben.post("/sessions", json!({ "pool": "lab" })).await.problem(403, "not_entitled");
    let eve = json!({ "name": "eve", "password": "password of eve", "groups": ["staff"] });
    assert_eq!(server.local().post("/users", eve).await.status, 201);
    server.sign_in("eve", "password of eve").await.connect("lab").await;
    ben.post("/sessions", json!({ "pool": "nowhere" })).await.problem(404, "pool_not_found");
}

#[tokio::test]
async fn deleting_a_pool_or_a_user_destroys_their_desktops_only_when_said() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    ada.connect("desk").await;
    ben.connect("desk").await;
    server.local().delete("/pools/desk").await.problem(409, "pool_in_use");
    assert_eq!(agent.running().len(), 2);
    assert_eq!(server.local().delete("/users/ada").await.status, 204);
    eventually("the user's desktop is gone", || async { (agent.running().len() == 1).then_some(()) }).await;
    ada.get("/me").await.problem(401, "not_signed_in");
    assert_eq!(server.local().delete("/pools/desk?force=true").await.status, 204);
    eventually("the pool's desktops are gone", || async { agent.running().is_empty().then_some(()) }).await;
    let empty = || async { agent.desired().filter(|d| d.templates.is_empty()) };
    eventually("its template is not wanted any more", empty).await;
    ben.post("/sessions", json!({ "pool": "desk" })).await.problem(404, "pool_not_found");
}

#[tokio::test]
async fn an_administrator_makes_a_desktop_ahead_and_the_user_finds_it() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let body = json!({ "pool": "desk", "user": "ada" });
    let made: Desktop = server.local().post("/desktops", body.clone()).await.created();
    server.local().post("/desktops", body).await.problem(409, "already_assigned");
    assert_eq!(ada.connect("desk").await.desktop.id, made.id);
    let path = format!("/desktops/{}?wait=true", made.id);
    ada.delete(&path).await.problem(403, "not_permitted");
    assert_eq!(server.local().delete(&path).await.status, 204);
    assert_eq!(agent.running(), []);
}

#[tokio::test]
async fn many_users_at_once_each_get_exactly_one() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let users = ["ada", "ben", "cyd", "dan", "eve", "fay"];
    let mut clients = Vec::new();
    for name in users {
        clients.push(server.user(name).await);
    }
    // Each asks three times at once.
    let asks = clients.iter().flat_map(|c| [c, c, c]).map(|c| c.connect("desk"));
    let connections = futures_util::future::join_all(asks).await;
    let mut desktops: Vec<_> = connections.iter().map(|c| (c.session.user.clone(), c.desktop.id)).collect();
    desktops.sort();
    desktops.dedup();
    assert_eq!(desktops.len(), users.len());
    assert_eq!(agent.running().len(), users.len());
    let revisions: Vec<_> = agent.received().iter().map(|d| d.revision).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
}
