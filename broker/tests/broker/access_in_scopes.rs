//! Every operation of the API by everybody whose role holds for one pool or one group only: on what is in that scope, and on what is not.

use crate::support::agent::{Agent, snapshot_of};
use crate::support::{Answer, Client, Server, eventually};
use lucarne_broker::access::{Need, OPERATIONS};
use lucarne_control::SnapshotId;
use lucarne_control::agent::{FromAgent, Observed, SnapshotWish};
use lucarne_control::api::{Connection, Permission, Role, ScopeKind};
use serde_json::{Value, json};

/// Nothing has this id.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// What an operation is done to.
struct Side<'a> {
    pool: &'static str,
    user: &'static str,
    group: &'static str,
    /// The user, signed in.
    client: &'a Client<'a>,
    /// Who may see everything.
    local: &'a Client<'a>,
    /// Their host.
    agent: &'a Agent,
}

impl Side<'_> {
    /// Who has a desktop of the pool, a fresh one where it was ended by an operation before.
    async fn connected(&self) -> Connection {
        self.client.connect(self.pool).await
    }

    /// The id of the disk that is in a desktop.
    async fn disk(&self, connection: &Connection) -> String {
        let disks: Value = self.local.get("/disks?limit=500").await.ok();
        let name = connection.desktop.name.as_str();
        let disk = disks["items"].as_array().unwrap().iter().find(|disk| disk["desktop"] == name);
        disk.unwrap_or_else(|| panic!("no disk is in {name}: {disks}"))["id"].as_str().unwrap().to_owned()
    }

    /// The id of a snapshot of a desktop, which its host has.
    async fn snapshot(&self, connection: &Connection) -> String {
        let (desktop, snapshot) = (connection.desktop.id, SnapshotId::generate());
        let wish = SnapshotWish::Take { memory: false, until: 0 };
        let snapshots = vec![snapshot_of(desktop, snapshot, wish)];
        self.agent.say(FromAgent::Observed(Observed { snapshots, ..Observed::default() }));
        eventually("it is on record", || async {
            let answer = self.local.get(&format!("/snapshots/{snapshot}")).await;
            (answer.status == 200).then(|| snapshot.to_string())
        })
        .await
    }

    /// The operation, with a body that would do something where it is let.
    async fn ask(&self, who: &Client<'_>, method: &str, path: &str) -> Answer {
        let mut asked = path.to_owned();
        if path.contains("{id}") {
            let there = self.connected().await;
            let id = match path.split('/').nth(1) {
                Some("sessions") => there.session.id.to_string(),
                Some("desktops") => there.desktop.id.to_string(),
                Some("disks") => self.disk(&there).await,
                Some("snapshots") => self.snapshot(&there).await,
                _ => NOBODY.to_owned(),
            };
            asked = asked.replace("{id}", &id);
        }
        let entitling = path.starts_with("/pools/{pool}/");
        for (parameter, value) in [
            ("{pool}", self.pool),
            ("{user}", self.user),
            // What the pool's own users are is not what is looked at here.
            ("{group}", if entitling { "guests" } else { self.group }),
            ("{role}", "auditor"),
            ("{viewer}", "9999"),
            ("{shadow}", NOBODY),
            ("{host}", NOBODY),
            ("{image}", NOBODY),
        ] {
            asked = asked.replace(parameter, value);
        }
        let body = match path {
            "/desktops" => json!({ "pool": self.pool, "user": self.user }),
            "/apply" => {
                json!({ "pools": [{ "name": self.pool, "image": "debian-desktop" }], "dry_run": true })
            }
            "/desktops/{id}/power" => json!({ "state": "on" }),
            "/sessions/{id}/shadows/{shadow}" => json!({ "allow": true }),
            _ => json!({}),
        };
        match path {
            "/explain" => asked += &format!("?user={}&pool={}", self.user, self.pool),
            "/events" => asked += "?kind=nothing",
            "/sessions" if method == "GET" => asked += "?all=true",
            _ => {}
        }
        let body = (method != "GET" && method != "DELETE").then_some(body);
        who.send(method.parse().unwrap(), &format!("/api/v1{asked}"), body).await
    }
}

/// What becomes of an operation.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It was let in: whatever it answers is not for want of a right.
    Let,
    /// 403 `not_permitted`.
    Refused,
    /// 404: there is no such thing, to this caller.
    Missing,
    /// The thing is another's, and only its own user may.
    Anothers,
}

fn outcome(answer: &Answer) -> Outcome {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status.as_u16(), problem["code"].as_str().unwrap_or_default()) {
        (403, "not_permitted") => Outcome::Refused,
        (403, "not_your_desktop") => Outcome::Anothers,
        // Not for want of the thing that it is about: there are neither such viewers nor such questions.
        (404, "viewer_not_found" | "shadow_not_found") => Outcome::Let,
        (404, _) => Outcome::Missing,
        _ => Outcome::Let,
    }
}

/// What it has to be, by what is said of the operation alone.
fn expected(method: &str, path: &str, need: Need, role: Role, kind: ScopeKind, within: bool) -> Vec<Outcome> {
    use Outcome::{Anothers, Let, Missing, Refused};
    let held = |p: &Permission| role.permissions_in(kind).any(|held| held == *p);
    match need {
        Need::Nothing | Need::SignIn => vec![Let],
        // What holds in a scope is no permission here.
        Need::OneOf(these) if !these.contains(&Permission::Own) => vec![Refused],
        Need::OneOf(_) if path.contains("{id}") => vec![Missing, Anothers],
        Need::OneOf(_) => vec![Let],
        Need::Within(these) => {
            let own = these.contains(&Permission::Own);
            match these.iter().any(held) {
                false if !own => vec![Refused],
                // A list has their own things.
                _ if method == "GET" && !path.contains('{') && path != "/explain" => vec![Let],
                true if within => vec![Let],
                true if path == "/apply" => vec![Refused],
                // What they may see of another's they may not do.
                false if within => vec![Refused],
                _ => vec![Missing],
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scoped_role_may_do_at_each_operation_what_it_gives_in_its_scope_and_nothing_out_of_it() {
    let server = Server::start().await;
    let attic = Agent::start(&server).await;
    let local = server.local();
    for pool in ["inside", "outside"] {
        let body = json!({ "name": pool, "image": "debian-desktop", "entitled_groups": ["everyone"], "home": { "size_gib": 1 } });
        assert_eq!(local.post("/pools", body).await.status, 201);
    }
    let (ann, oda) = (server.user("ann").await, server.user("oda").await);
    assert_eq!(local.put("/users/ann/groups/crew", json!({})).await.status, 204);
    assert_eq!(local.put("/users/oda/groups/others", json!({})).await.status, 204);
    let mut wrong = Vec::new();
    for (role, kind) in Role::SCOPED.into_iter().flat_map(|role| ScopeKind::ALL.map(|kind| (role, kind))) {
        let name = format!("a-{}-{kind}", role.as_str().replace('_', "-"));
        let mut who = server.user(&name).await;
        let scope = match kind {
            ScopeKind::Pool => "pools/inside",
            ScopeKind::Group => "groups/crew",
        };
        let given = local.put(&format!("/users/{name}/roles/{}/{scope}", role.as_str()), json!({})).await;
        assert_eq!(given.status, 204, "{}", given.text());
        // Of each kind what the other has is none of it.
        let inside = match kind {
            ScopeKind::Pool => Side {
                pool: "inside",
                user: "oda",
                group: "others",
                client: &oda,
                local: &local,
                agent: &attic,
            },
            ScopeKind::Group => Side {
                pool: "outside",
                user: "ann",
                group: "crew",
                client: &ann,
                local: &local,
                agent: &attic,
            },
        };
        let outside = Side {
            pool: "outside",
            user: "oda",
            group: "others",
            client: &oda,
            local: &local,
            agent: &attic,
        };
        for (method, path, need) in OPERATIONS {
            for (side, within) in [(&inside, true), (&outside, false)] {
                let answer = side.ask(&who, method, path).await;
                let (got, expected) = (outcome(&answer), expected(method, path, *need, role, kind, within));
                if !expected.contains(&got) && !matches!(*path, "/auth/login" | "/auth/token" | "/stream") {
                    let at = if within { "in" } else { "out of" };
                    let said = answer.text();
                    wrong.push(format!(
                        "{name}, {at} scope: {method} {path}: {got:?}, not {expected:?}: {said}"
                    ));
                }
                if *path == "/auth/logout" {
                    who = server.sign_in(&name, &format!("password of {name}")).await;
                }
            }
        }
        wrong.extend(lists(&who, role, kind, [&inside, &outside]).await);
        let whole: Value = local.get("/pools/inside").await.ok();
        assert_eq!(whole["name"], "inside", "it was not deleted, for it is in use");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the lists: each has what is within, by the permission that it takes, and nothing else.
async fn lists(who: &Client<'_>, role: Role, kind: ScopeKind, sides: [&Side<'_>; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    let there = [sides[0].connected().await, sides[1].connected().await];
    let disks = [sides[0].disk(&there[0]).await, sides[1].disk(&there[1]).await];
    let each = |what: &str, n: usize| match what {
        "/pools" => sides[n].pool.to_owned(),
        "/users" => sides[n].user.to_owned(),
        "/groups" => sides[n].group.to_owned(),
        "/desktops" => there[n].desktop.id.to_string(),
        "/disks" => disks[n].clone(),
        _ => there[n].session.id.to_string(),
    };
    for (path, permission) in [
        ("/pools", Permission::PoolsRead),
        ("/users", Permission::UsersRead),
        ("/groups", Permission::UsersRead),
        ("/desktops", Permission::DesktopsRead),
        ("/sessions", Permission::DesktopsRead),
        ("/disks", Permission::DesktopsRead),
    ] {
        if !role.permissions_in(kind).any(|held| held == permission) {
            continue;
        }
        let listed = who.get(&format!("{path}?limit=500&all=true")).await;
        let items = listed.ok::<Value>()["items"].as_array().unwrap().clone();
        let has =
            |n: usize| items.iter().any(|item| item["id"] == each(path, n) || item["name"] == each(path, n));
        if !has(0) || has(1) {
            wrong.push(format!("{} for a {kind}, {path}: {items:?}", role.as_str()));
        }
    }
    wrong
}
