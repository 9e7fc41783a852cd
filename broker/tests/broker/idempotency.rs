//! Requests that carry an `Idempotency-Key` are done once, however often they are sent and through whichever broker.

use crate::support::agent::Agent;
use crate::support::{Answer, Client, Server, config};
use lucarne_control::api::{AuditEntry, Desktop, Enrollment, GivenEnrollment, Pool, User};
use lucarne_postgres::Server as Postgres;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "idempotency-key";

fn replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some_and(|v| v == "true")
}

fn user(name: &str) -> Value {
    json!({ "name": name, "password": "correct horse" })
}

/// A repeat of what was answered with `first`.
fn same(first: &Answer, again: &Answer) {
    assert!(!replayed(first) && replayed(again), "{}", again.text());
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    for name in ["content-type", "retry-after", "cache-control"] {
        assert_eq!(first.headers.get(name), again.headers.get(name), "{name}");
    }
}

async fn made(admin: &Client<'_>, action: &str) -> usize {
    admin.page::<AuditEntry>("/audit").await.iter().filter(|e| e.action == action).count()
}

#[tokio::test]
async fn a_repeat_is_given_the_first_answer_and_is_not_done_twice() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let before = made(&admin, "user.created").await;
    let keyed = admin.clone().with(KEY, "one");
    let first = keyed.post("/users", user("ada")).await;
    let ada: User = first.created();
    same(&first, &keyed.post("/users", user("ada")).await);
    assert_eq!(made(&admin, "user.created").await, before + 1);

    // A refusal is an answer, too; it stays what it was when its reason is gone.
    let keyed = admin.clone().with(KEY, "two");
    let first = keyed.post("/users", user("ada")).await;
    first.problem(409, "name_taken");
    assert_eq!(admin.delete(&format!("/users/{}", ada.id)).await.status, 204);
    same(&first, &keyed.post("/users", user("ada")).await);
    // Without a key it is another request.
    admin.post("/users", user("ada")).await.created::<User>();
}

#[tokio::test]
async fn a_key_is_for_one_request_of_one_caller() {
    let server = Server::start().await;
    let (admin, local) = (server.admin().await, server.local());
    let keyed = admin.clone().with(KEY, "k");
    keyed.post("/users", user("ada")).await.created::<User>();
    for (path, body) in [("/users", user("ben")), ("/users?a=b", user("ada")), ("/enrollments", user("ada"))]
    {
        keyed.post(path, body).await.problem(422, "idempotency_key_reused");
    }
    // What is no POST needs none, and is done.
    assert_eq!(keyed.delete("/users/ada").await.status, 204);
    let body = json!({ "name": "root", "password": "correct horse", "role": "administrator" });
    local.post("/users", body).await.created::<User>();
    let other = server.sign_in("root", "correct horse").await.with(KEY, "k");
    let answer = other.post("/users", user("ben")).await;
    answer.created::<User>();
    assert!(!replayed(&answer));
}

#[tokio::test]
async fn of_many_that_are_sent_at_once_one_is_done() {
    let server = Server::start().await;
    let keyed = server.admin().await.with(KEY, "once");
    let answers =
        futures_util::future::join_all((0..20).map(|_| keyed.post("/enrollments", json!({})))).await;
    let (done, waiting): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 201);
    let first = done.iter().find(|a| !replayed(a)).expect("one is done");
    done.iter().filter(|a| replayed(a)).for_each(|again| same(first, again));
    assert_eq!(done.iter().filter(|a| !replayed(a)).count(), 1);
    waiting.iter().for_each(|a| drop(a.problem(409, "idempotency_key_in_use")));
    assert_eq!(server.local().page::<Enrollment>("/enrollments").await.len(), 1);
    same(first, &keyed.post("/enrollments", json!({})).await);
}

#[tokio::test]
async fn what_could_not_be_done_is_done_when_it_is_repeated() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    server.user("ada").await;
    let keyed = server.admin().await.with(KEY, "later");
    assert_eq!(server.local().put("/hosts/attic/drain", json!({})).await.status, 204);
    let body = json!({ "pool": "desk", "user": "ada" });
    keyed.post("/desktops", body.clone()).await.problem(503, "no_host");
    assert_eq!(server.local().delete("/hosts/attic/drain").await.status, 204);
    let first = keyed.post("/desktops", body.clone()).await;
    first.created::<Desktop>();
    same(&first, &keyed.post("/desktops", body).await);
    drop(agent);
}

#[tokio::test]
async fn keys_that_are_none_and_sign_ins_with_one_are_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for bad in ["", "two words", "tab\tbed", &"k".repeat(256)] {
        admin.clone().with(KEY, bad).post("/users", user("ada")).await.problem(400, "invalid_request");
    }
    admin.clone().with(KEY, &"k".repeat(255)).post("/users", user("ada")).await.created::<User>();
    let body = user("ada");
    for path in ["/auth/token", "/auth/login"] {
        let keyed = server.anyone().with(KEY, "k");
        keyed.post(path, body.clone()).await.problem(400, "idempotency_key_not_accepted");
    }
    let keyed = admin.clone().with(KEY, "k");
    keyed.post("/auth/logout", json!({})).await.problem(400, "idempotency_key_not_accepted");
    server.anyone().with(KEY, "k").post("/users", user("ben")).await.problem(401, "not_signed_in");
}

/// Whether a file under `folder` has these bytes in it.
fn on_disk(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return on_disk(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn an_answer_outlives_its_broker_and_its_secrets_are_on_no_disk() {
    let server = Server::start().await;
    let key = "3c1b6a62-9f0e-4d7b-9d2e-0b8d1f6f2a11";
    let first = server.local().with(KEY, key).post("/enrollments", json!({ "host": "attic" })).await;
    let given: GivenEnrollment = first.created();
    let dir = server.stop().await;
    assert!(on_disk(dir.path(), &given.enrollment.id.to_string()), "the search finds what is there");
    assert!(!on_disk(dir.path(), &given.token) && !on_disk(dir.path(), key));
    let server = Server::start_in(dir).await;
    same(&first, &server.local().with(KEY, key).post("/enrollments", json!({ "host": "attic" })).await);
    assert!(!on_disk(server.dir.path(), &given.token));
}

#[test]
fn a_repeat_through_another_broker_is_not_done_twice() {
    let postgres = Postgres::get().unwrap();
    let database = postgres.database().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let start = async || {
            let dir = Arc::new(tempfile::tempdir().unwrap());
            let database = Some(database.url());
            let config = lucarne_broker::Config { database, ..config(dir.path()) };
            Server::start_with(dir, config).await
        };
        let (one, two) = (start().await, start().await);
        let agent = Agent::start(&one).await;
        let pool = json!({ "name": "lab", "image": "debian-desktop" });
        let first = one.local().with(KEY, "k").post("/pools", pool.clone()).await;
        first.created::<Pool>();
        same(&first, &two.local().with(KEY, "k").post("/pools", pool).await);
        drop(agent);
        one.stop().await;
        two.stop().await;
    });
    // Their connections end with their threads, before the database does.
    drop(runtime);
}
