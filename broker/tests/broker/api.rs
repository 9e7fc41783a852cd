//! The API's doors: who is let in, what is refused, and how that is said.

use crate::support::agent::{self, Agent};
use crate::support::{Server, config, eventually};
use hyper::Method;
use lucarne_control::agent::{FromAgent, Observed, PROTOCOL_VERSION};
use lucarne_control::api::{AuditEntry, AuditVerified, Host, Image, Pool, Role, User};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let server = Server::start().await;
    server.user("ada").await;
    let login = |name: &str| {
        let body = json!({ "name": name, "password": "not the password" });
        let anyone = server.anyone();
        async move { anyone.post("/auth/login", body).await }
    };
    let (known, unknown) = (login("ada").await, login("nobody").await);
    known.problem(401, "bad_credentials");
    assert_eq!(known.body, unknown.body);
    let log: Vec<AuditEntry> = server.local().page("/audit").await;
    assert_eq!(log.iter().filter(|e| e.action == "login.refused").count(), 2);
    assert!(
        log.iter().all(|e| !e.detail.contains("not the password") && !e.subject.contains("not the password"))
    );
}

#[tokio::test]
async fn a_cookie_is_for_this_server_only_and_ends_with_the_sign_out() {
    let server = Server::start().await;
    let body = json!({ "name": "admin", "password": server.password });
    let answer = server.anyone().post("/auth/login", body).await;
    let user: User = answer.ok();
    assert_eq!((user.name.as_str(), user.role), ("admin", Role::Administrator));
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let admin = server.anyone().with("cookie", cookie.split(';').next().unwrap());
    assert_eq!(admin.get("/me").await.ok::<User>().id, user.id);
    assert_eq!(admin.post("/auth/logout", json!({})).await.status, 204);
    admin.get("/me").await.problem(401, "not_signed_in");
}

#[tokio::test]
async fn a_changed_password_ends_other_sign_ins_and_the_first_password() {
    let server = Server::start().await;
    let file = server.dir.path().join("data/initial-admin-password");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (here, elsewhere) = (server.admin().await, server.admin().await);
    let change = |current: &str, new: &str| json!({ "current": current, "password": new });
    here.put("/me/password", change(&server.password, "short")).await.problem(400, "invalid_request");
    here.put("/me/password", change("wrong password", "a new password"))
        .await
        .problem(401, "bad_credentials");
    assert_eq!(here.put("/me/password", change(&server.password, "a new password")).await.status, 204);
    assert!(!file.exists());
    here.get("/me").await.ok::<User>();
    elsewhere.get("/me").await.problem(401, "not_signed_in");
    server.sign_in("admin", "a new password").await;
    let server = Server::start_in(server.stop().await).await;
    assert_eq!(server.password, "", "there is no first password any more");
}

#[tokio::test]
async fn users_are_no_administrators_and_do_not_see_what_is_others() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    for path in [
        "/pools",
        "/pools/desk",
        "/users",
        "/users/ben",
        "/groups",
        "/images",
        "/hosts",
        "/hosts/attic",
        "/audit",
    ] {
        ada.get(path).await.problem(403, "not_permitted");
        server.anyone().get(path).await.problem(401, "not_signed_in");
    }
    for (path, body) in ["/users", "/pools", "/desktops", "/audit/verify"].map(|path| (path, json!({}))) {
        ada.post(path, body).await.problem(403, "not_permitted");
    }
    ada.delete("/users/ben").await.problem(403, "not_permitted");
    let bens = ben.connect("desk").await;
    ada.get(&format!("/sessions/{}", bens.session.id)).await.problem(404, "session_not_found");
    ada.delete(&format!("/sessions/{}", bens.session.id)).await.problem(404, "session_not_found");
    ada.post(&format!("/sessions/{}/ticket", bens.session.id), json!({}))
        .await
        .problem(404, "session_not_found");
    ada.get(&format!("/desktops/{}", bens.desktop.id)).await.problem(404, "desktop_not_found");
    ada.get(&format!("/desktops/{}/thumbnail", bens.desktop.id)).await.problem(404, "desktop_not_found");
    assert_eq!(ada.page::<Value>("/sessions?all=true").await, Vec::<Value>::new());
    assert_eq!(ada.page::<Value>("/desktops?all=true").await, Vec::<Value>::new());
    assert_eq!(ben.page::<Value>("/sessions").await.len(), 1);
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let server = Server::start().await;
    let body = || json!({ "name": "admin", "password": server.password });
    let foreign = server.anyone().with("origin", "https://evil.example");
    foreign.post("/auth/login", body()).await.problem(403, "foreign_origin");
    server.anyone().with("origin", "null").post("/auth/login", body()).await.problem(403, "foreign_origin");
    let own = server.anyone().with("origin", &format!("https://{}", server.address));
    assert_eq!(own.post("/auth/login", body()).await.status, 200);
}

#[tokio::test]
async fn every_answer_is_kept_nowhere_and_framed_by_nobody() {
    let server = Server::start().await;
    for path in ["/api/v1/health", "/api/v1/me", "/api/nothing", "/", "/desktop/x", "/no-such-file.js"] {
        let answer = server.anyone().send(Method::GET, path, None).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_said_as_a_problem() {
    let server = Server::start().await;
    let admin = server.admin().await;
    server.anyone().get("/nothing").await.problem(404, "no_such_path");
    admin.put("/health", json!({})).await.problem(405, "method_not_allowed");
    admin.post("/users", json!({ "name": 1 })).await.problem(400, "invalid_request");
    admin
        .post("/users", json!({ "name": "Ada", "password": "12345678" }))
        .await
        .problem(400, "invalid_request");
    admin
        .post("/users", json!({ "name": "ada", "password": "1234567" }))
        .await
        .problem(400, "invalid_request");
    admin.post("/users", json!({ "name": "admin", "password": "12345678" })).await.problem(409, "name_taken");
    admin.get("/users?limit=0").await.problem(400, "invalid_request");
    admin.get("/users?limit=x").await.problem(400, "invalid_request");
    admin.get("/sessions/not-an-id").await.problem(400, "invalid_request");
    admin.get("/users/nobody").await.problem(404, "user_not_found");
    admin.get("/hosts/nowhere").await.problem(404, "host_not_found");
    admin.delete("/users/admin").await.problem(409, "last_administrator");
    let pool = json!({ "name": "p", "image": "nothing" });
    admin.post("/pools", pool).await.problem(404, "image_not_found");
    let huge = json!({ "name": "x".repeat(70_000), "password": "" });
    admin.post("/auth/login", huge).await.problem(413, "body_too_large");
    server.anyone().get("/stream").await.problem(400, "invalid_request");
    let text = admin.clone().with("content-type", "text/plain");
    text.post("/users", json!({})).await.problem(415, "not_json");
    let none = admin.post("/sessions", json!({ "pool": "desk", "wait_ms": 60_001 })).await;
    none.problem(400, "invalid_request");
}

#[tokio::test]
async fn lists_are_paged_without_gaps_or_doubles() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for i in 0..5 {
        let body = json!({ "name": format!("user{i}"), "password": "12345678" });
        assert_eq!(admin.post("/users", body).await.status, 201);
    }
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page: Value = admin.get(&format!("/users?limit=2&after={after}")).await.ok();
        names
            .extend(page["items"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(names, ["admin", "user0", "user1", "user2", "user3", "user4"]);
}

#[tokio::test]
async fn the_first_image_becomes_the_default_pool_once() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let admin = server.admin().await;
    let pool: Pool = admin.get("/pools/desk").await.ok();
    assert_eq!(
        (pool.description.as_str(), &pool.entitled_groups[..]),
        ("Debian desktop", &["everyone".to_owned()][..])
    );
    assert_eq!(admin.delete("/pools/desk").await.status, 204);
    agent.say(FromAgent::Observed(Observed {
        images: Some(vec![agent::image(1), agent::image(2)]),
        ..Observed::default()
    }));
    eventually("the second image is there", || async {
        (admin.page::<Image>("/images").await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(admin.page::<Pool>("/pools").await, [], "a deleted default pool does not come back");
}

#[tokio::test]
async fn an_image_in_use_stays_and_another_is_deleted_from_its_hosts() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let admin = server.admin().await;
    agent.say(FromAgent::Observed(Observed {
        images: Some(vec![agent::image(1), agent::image(2)]),
        ..Observed::default()
    }));
    let second = agent::image(2).digest;
    let found = || async { (admin.get(&format!("/images/{second}")).await.status == 200).then_some(()) };
    eventually("the second image is there", found).await;
    let newest: Image = admin.get("/images/debian-desktop").await.ok();
    assert_eq!((newest.digest, newest.hosts), (second.clone(), vec!["attic".to_owned()]));
    let first = agent::image(1).digest;
    let detail = admin.delete(&format!("/images/{first}")).await.problem(409, "image_in_use");
    assert!(detail.contains("desk"), "{detail}");
    assert_eq!(admin.delete(&format!("/images/{second}")).await.status, 204);
    admin.get(&format!("/images/{second}")).await.problem(404, "image_not_found");
}

#[tokio::test]
async fn hosts_show_what_they_can_do_and_are_forgotten_only_when_offline_and_empty() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let admin = server.admin().await;
    agent.say(FromAgent::Heartbeat { disk_free: 5 << 30, memory_available: 7 << 30 });
    let host: Host = eventually("the heartbeat is seen", || async {
        let host: Host = admin.get("/hosts/attic").await.ok();
        (host.disk_free == 5 << 30).then_some(host)
    })
    .await;
    assert!(host.online && host.memory_available == 7 << 30 && host.facts.accel == "tcg");
    admin.delete("/hosts/attic").await.problem(409, "host_in_use");
    let ada = server.user("ada").await;
    ada.connect("desk").await;
    agent.cut();
    let offline = || async { (!admin.get("/hosts/attic").await.ok::<Host>().online).then_some(()) };
    eventually("the host is offline", offline).await;
    admin.delete("/hosts/attic").await.problem(409, "host_in_use");
}

#[tokio::test]
async fn an_agent_of_another_version_and_a_second_one_of_the_same_name_are_refused_with_the_reason() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let socket = server.agent_socket();
    let reason = agent::refused(&socket, agent::hello("cellar", PROTOCOL_VERSION + 1, 1024)).await;
    assert!(reason.contains("install the same release"), "{reason}");
    let reason = agent::refused(&socket, agent::hello("attic", PROTOCOL_VERSION, 1024)).await;
    assert!(reason.contains("another agent is connected"), "{reason}");
    let hosts: Vec<Host> = server.local().page("/hosts").await;
    assert_eq!(hosts.len(), 1);
}

#[tokio::test]
async fn sockets_and_keys_are_for_their_owner_only_and_go_with_the_broker() {
    let server = Server::start().await;
    let mode =
        |path: &str| std::fs::metadata(server.dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("run/agent.sock"), mode("run/admin.sock"), mode("data/tls/key.pem")], [0o600; 3]);
    assert_eq!(mode("data"), 0o700);
    let dir = server.stop().await;
    assert!(!dir.path().join("run/agent.sock").exists() && !dir.path().join("run/admin.sock").exists());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do_and_nothing_is_made() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut second = config(dir.path());
    second.listen = server.address;
    let error = lucarne_broker::Broker::start(second).await.err().unwrap().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("--listen"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let same = config(server.dir.path());
    let error = lucarne_broker::Broker::start(same).await.err().unwrap().to_string();
    assert!(error.contains("admin.sock") && error.contains("another process"), "{error}");
    server.local().get("/health").await.ok::<Value>();
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_so() {
    let server = Server::start().await;
    let mut tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this is an https port"), "{answer}");
}

#[tokio::test]
async fn the_audit_log_is_checked_on_request_against_what_was_there() {
    let server = Server::start().await;
    server.user("ada").await;
    let check = |body: Value| {
        let admin = server.local();
        async move { admin.post("/audit/verify", body).await }
    };
    let first: AuditVerified = check(json!({})).await.ok();
    assert!(first.rows >= 3 && first.faults.is_empty() && !first.heads.is_empty(), "{first:?}");
    server.user("ben").await;
    let again: AuditVerified = check(json!({ "heads": first.heads })).await.ok();
    assert!(again.faults.is_empty() && again.rows > first.rows, "{again:?}");
    let mut cut = first.heads[0].clone();
    cut.number += 1000;
    let missed: AuditVerified = check(json!({ "heads": [cut] })).await.ok();
    assert!(missed.faults[0].contains("was there and is gone"), "{missed:?}");
    check(json!({ "heads": [{ "strand": "x" }] })).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn who_is_refused_is_heard_out_and_goes_on_with_the_same_connection() {
    let server = Server::start().await;
    let mut tls = server.connect().await;
    let head = |length: usize| {
        format!(
            "POST /api/v1/users HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer none\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            server.address
        )
    };
    tls.write_all(head(60_000).as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    // Meanwhile the broker has had the time to answer somebody else.
    server.anyone().get("/me").await.problem(401, "not_signed_in");
    let rest = [vec![b'x'; 60_000], head(2).into_bytes(), b"{}".to_vec()].concat();
    tls.write_all(&rest).await.unwrap();
    tls.flush().await.unwrap();
    let mut answers = Vec::new();
    let both = async {
        while String::from_utf8_lossy(&answers).matches("\"not_signed_in\"").count() < 2 {
            assert_ne!(tls.read_buf(&mut answers).await.unwrap(), 0, "the connection is closed");
        }
    };
    tokio::time::timeout(crate::support::LIMIT, both).await.expect("both are answered");
}
