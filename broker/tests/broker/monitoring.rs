//! What monitoring sees of a broker: metrics in Prometheus' text format, health and readiness; and the steps of a launch.

use crate::support::agent::Agent;
use crate::support::viewer::Browser;
use crate::support::{Server, eventually};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use lucarne_control::api::LaunchTimes;
use lucarne_control::desktop::LaunchStep;
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Asks as monitoring does: plain HTTP, no sign-in.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "monitoring");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    connection.await.unwrap().unwrap();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

/// The value of a sample, as it is written.
fn sample<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_where_monitoring_looks() {
    let server = Server::start().await;
    let _attic = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let nobody = json!({ "name": "ada", "password": "a wrong one" });
    server.anyone().post("/auth/token", nobody).await.problem(401, "bad_credentials");
    let connection = ada.connect("desk").await;
    ada.connect("desk").await;
    ada.post("/sessions", json!({ "pool": "no such pool" })).await.problem(404, "pool_not_found");
    let browser = Browser::view(&server, &connection).await;

    let (status, kind, text) = ask(server.metrics, "GET", "/metrics").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4"));
    for (name, value) in [
        (r#"lucarne_connects_total{outcome="fresh",pool="desk"}"#, "1"),
        (r#"lucarne_connects_total{outcome="refused",pool=""}"#, "1"),
        (r#"lucarne_launch_step_duration_seconds_count{pool="desk",step="picture"}"#, "1"),
        (r#"lucarne_sign_ins_total{outcome="accepted"}"#, "1"),
        (r#"lucarne_sign_ins_total{outcome="refused"}"#, "1"),
        (r#"lucarne_sign_ins_total{outcome="too_many"}"#, "0"),
        (r#"lucarne_streams{kind="browser"}"#, "1"),
        (r#"lucarne_streams{kind="vnc"}"#, "0"),
        ("lucarne_host_links", "1"),
        (r#"lucarne_pool_desktops{pool="desk"}"#, "1"),
        (r#"lucarne_host_online{host="attic"}"#, "1"),
        (r#"lucarne_host_desktops{host="attic"}"#, "1"),
        (r#"lucarne_http_requests_total{method="POST",route="/api/v1/auth/token",status="401"}"#, "1"),
    ] {
        assert_eq!(sample(&text, name), Some(value), "{name} in {text}");
    }
    assert!(!text.contains("ada") && !text.contains("no such pool"), "{text}");
    let answered = sample(&text, "lucarne_database_answer_seconds").unwrap().parse::<f64>().unwrap();
    assert!(answered > 0.0);

    drop(browser);
    eventually("the stream is over", || async {
        let (_, _, text) = ask(server.metrics, "GET", "/metrics").await;
        let none = sample(&text, r#"lucarne_streams{kind="browser"}"#) == Some("0");
        (none && text.contains("lucarne_streams_ended_total{kind=\"browser\"")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_are_told_to_whoever_asks_and_nothing_else() {
    let server = Server::start().await;
    assert_eq!(ask(server.metrics, "GET", "/healthz").await.0, 200);
    let (status, _, text) = ask(server.metrics, "GET", "/readyz").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("[+] database: answered in"), "{text}");
    let (status, _, text) = ask(server.metrics, "GET", "/api/v1/users").await;
    assert_eq!(status, 404);
    assert!(text.contains("/metrics, /healthz and /readyz"), "{text}");
    assert_eq!(ask(server.metrics, "POST", "/readyz").await.0, 405);
    let answer = server.anyone().get("/health").await;
    assert_eq!(answer.headers["x-request-id"].len(), 32, "each answer has an id that the log has, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_launch_follow_each_other_from_the_request_on() {
    let server = Server::start().await;
    let _attic = Agent::start(&server).await;
    let (ada, bob) = (server.user("ada").await, server.user("bob").await);
    let connection = ada.connect("desk").await;
    let path = format!("/desktops/{}/launch", connection.desktop.id);
    let times = async || -> LaunchTimes { ada.get(&path).await.ok() };
    let times = eventually("it is on record", || async {
        Some(times().await).filter(|times| times.requested_at_ms.is_some())
    })
    .await;
    let steps: Vec<LaunchStep> = times.steps.iter().map(|span| span.step).collect();
    assert!(steps.starts_with(&[LaunchStep::Queue, LaunchStep::Placement]), "{times:?}");
    assert_eq!((times.steps[0].start_ms, times.steps[1].start_ms), (0.0, times.steps[0].end_ms));
    assert!(times.steps.iter().all(|span| span.start_ms <= span.end_ms && span.end_ms <= times.total_ms));
    assert_eq!((times.user.as_deref(), times.host.as_deref()), (Some("ada"), Some("attic")));
    bob.get(&path).await.problem(404, "desktop_not_found");

    // Who comes back to a desktop has launched nothing.
    ada.connect("desk").await;
    let again: LaunchTimes = ada.get(&path).await.ok();
    assert_eq!(again.requested_at_ms, times.requested_at_ms);
}
