//! The invariants hold in the database itself, whatever the code above it does.

use super::*;
use crate::plan::{HostSeen, World};
use lucarne_control::agent::{Hello, HostFacts, PROTOCOL_VERSION};
use lucarne_control::api::{NewPool, NewUser};
use lucarne_control::spec::{
    ClipboardPolicy, ImageDigest, ImageInfo, NetworkPolicy, RecordingPolicy, TemplateSpec,
};
use lucarne_control::viewer::{ShadowPolicy, ViewerWish};
use lucarne_control::{DesktopId, HostId, SessionId, UserId};
use tempfile::TempDir;

/// Hosts are online and nothing has failed.
struct Fine;

impl World for Fine {
    fn host(&self, _: HostId, _: &TemplateSpec) -> HostSeen {
        HostSeen { online: true, ..HostSeen::default() }
    }
    fn failure(&self, _: DesktopId, _: u64) -> Option<String> {
        None
    }
}

struct Scene {
    store: Store,
    _dir: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("broker.db")).await.unwrap();
        let facts = HostFacts {
            cpus: 2,
            memory_mib: 65536,
            driver: "qemu".to_owned(),
            driver_version: "10".to_owned(),
            accel: "tcg".to_owned(),
            accel_reason: String::new(),
            network: String::new(),
        };
        let hello =
            Hello { protocol: PROTOCOL_VERSION, host: "attic".to_owned(), version: "0".to_owned(), facts };
        let host = store.host_connected(&hello).await.unwrap();
        let image = ImageInfo {
            digest: ImageDigest::try_from("ab".repeat(32)).unwrap(),
            name: "debian-desktop".to_owned(),
            version: "1".to_owned(),
            description: String::new(),
            format: "qcow2".to_owned(),
            virtual_size: 1,
            stored_size: 1,
            created_at: 1,
            source: "recipe:x".to_owned(),
            guest_agent: true,
        };
        store.set_host_images(host, "attic", std::slice::from_ref(&image)).await.unwrap();
        let new = NewPool {
            name: "desk".to_owned(),
            description: String::new(),
            image: "debian-desktop".to_owned(),
            machine: None,
            network: NetworkPolicy::User,
            shadow: ShadowPolicy::Off,
            shadow_control: false,
            audio: None,
            clipboard: ClipboardPolicy::Both,
            recording: RecordingPolicy::default(),
            max_desktops: Some(64),
            entitled_users: Vec::new(),
            entitled_groups: vec!["everyone".to_owned()],
        };
        store.create_pool("admin", &new, &image.digest).await.unwrap();
        Self { store, _dir: dir }
    }

    async fn user(&self, name: &str) -> UserId {
        let new = NewUser { name: name.to_owned(), password: String::new(), role: None, groups: Vec::new() };
        self.store.create_user("admin", &new, "hash").await.unwrap().id
    }

    async fn connect(&self, user: UserId) -> Result<Assigned> {
        let request = ConnectRequest { user, actor: "test", pool: "desk", session: true };
        self.store.connect(&request, &Fine).await
    }

    async fn execute(&self, sql: &'static str, binds: &[String]) -> std::result::Result<(), sqlx::Error> {
        let query = binds.iter().fold(sqlx::query(sql), |q, b| q.bind(b));
        query.execute(&self.store.writer).await.map(drop)
    }
}

fn is_unique_violation(result: std::result::Result<(), sqlx::Error>) -> bool {
    matches!(result, Err(sqlx::Error::Database(e)) if e.is_unique_violation())
}

fn session(assigned: &Assigned) -> SessionId {
    assigned.session.as_ref().unwrap().session.id
}

#[tokio::test]
async fn nothing_can_be_doubled() {
    let scene = Scene::new().await;
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let first = scene.connect(ada).await.unwrap();
    let second = scene.connect(ben).await.unwrap();
    let pool: String =
        sqlx::query_scalar("SELECT id FROM pools").fetch_one(&scene.store.reader).await.unwrap();
    let assign = "INSERT INTO assignments (id, desktop_id, user_id, pool_id) VALUES (?, ?, ?, ?)";
    let (d1, d2) = (first.desktop.id.to_string(), second.desktop.id.to_string());
    let binds = |id: &str, d: &str, u: UserId| [id.to_owned(), d.to_owned(), u.to_string(), pool.clone()];
    assert!(
        is_unique_violation(scene.execute(assign, &binds("a", &d1, ben)).await),
        "a desktop has one owner"
    );
    assert!(
        is_unique_violation(scene.execute(assign, &binds("b", &d2, ada)).await),
        "a user has one of a pool"
    );
    let place = "INSERT INTO placements (desktop_id, generation, host_id, memory_mib)
                 SELECT desktop_id, 2, host_id, memory_mib FROM placements WHERE desktop_id = ?";
    assert!(
        is_unique_violation(scene.execute(place, std::slice::from_ref(&d1)).await),
        "a desktop is at one place"
    );
    let again = "INSERT INTO sessions (id, user_id, pool_id, desktop_id, state)
                 SELECT 'x', user_id, pool_id, desktop_id, 'connecting' FROM sessions WHERE desktop_id = ?";
    assert!(is_unique_violation(scene.execute(again, &[d1]).await), "a desktop has one session");
}

#[tokio::test]
async fn desktops_and_sessions_are_told_of_their_pools_sound_and_clipboard() {
    let scene = Scene::new().await;
    let ada = scene.user("ada").await;
    let image = scene.store.pool("desk").await.unwrap().template.image;
    let quiet = NewPool {
        name: "quiet".to_owned(),
        description: String::new(),
        image: image.to_string(),
        machine: None,
        network: NetworkPolicy::User,
        shadow: ShadowPolicy::Off,
        shadow_control: false,
        audio: Some(false),
        clipboard: ClipboardPolicy::FromDesktop,
        recording: RecordingPolicy::default(),
        max_desktops: None,
        entitled_users: vec!["ada".to_owned()],
        entitled_groups: Vec::new(),
    };
    let made = scene.store.create_pool("admin", &quiet, &image).await.unwrap();
    assert_eq!((made.audio, made.clipboard), (false, ClipboardPolicy::FromDesktop));
    let mut desktops = Vec::new();
    for (pool, audio, clipboard) in
        [("desk", true, ClipboardPolicy::Both), ("quiet", false, ClipboardPolicy::FromDesktop)]
    {
        let request = ConnectRequest { user: ada, actor: "test", pool, session: true };
        let connected = scene.store.connect(&request, &Fine).await.unwrap();
        assert_eq!(scene.store.session(session(&connected)).await.unwrap().session.clipboard, clipboard);
        desktops.push((connected.desktop.id, audio, clipboard));
    }
    let host: String = sqlx::query_scalar("SELECT DISTINCT host_id FROM placements")
        .fetch_one(&scene.store.reader)
        .await
        .unwrap();
    let desired = scene.store.desired(host.parse().unwrap()).await.unwrap();
    let told: Vec<_> = desired.desktops.iter().map(|d| (d.desktop, d.audio, d.clipboard)).collect();
    desktops.sort_by_key(|(id, ..)| id.to_string());
    assert_eq!(told, desktops);
}

#[tokio::test]
async fn a_desktop_that_had_a_user_cannot_be_assigned_again_even_when_it_is_free() {
    let scene = Scene::new().await;
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let first = scene.connect(ada).await.unwrap();
    scene.store.log_off("ada", session(&first)).await.unwrap();
    let assign = "INSERT INTO assignments (id, desktop_id, user_id, pool_id)
                  SELECT 'x', desktop_id, ?, pool_id FROM assignments WHERE desktop_id = ?";
    let binds = [ben.to_string(), first.desktop.id.to_string()];
    assert!(is_unique_violation(scene.execute(assign, &binds).await));
}

#[tokio::test]
async fn the_audit_log_cannot_be_rewritten() {
    let scene = Scene::new().await;
    for sql in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        let error = scene.execute(sql, &[]).await.unwrap_err().to_string();
        assert!(error.contains("audit rows are never"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_redemptions_at_once_one_wins() {
    let scene = Scene::new().await;
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let hash = crate::secret::hash("ticket");
    scene
        .store
        .create_ticket(session(&first), first.desktop.generation, &hash, ViewerWish::TakeOver)
        .await
        .unwrap();
    let tries = (0..1000).map(|_| {
        let (store, hash) = (scene.store.clone(), hash.clone());
        tokio::spawn(async move { store.redeem_ticket(&hash).await.unwrap() })
    });
    let won: Vec<_> =
        futures_util::future::join_all(tries).await.into_iter().filter_map(|t| t.unwrap()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!((won[0].session, won[0].placed.desktop), (session(&first), first.desktop.id));
}

#[tokio::test]
async fn a_ticket_dies_with_its_time_its_session_and_its_placement() {
    let scene = Scene::new().await;
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let (id, generation) = (session(&first), first.desktop.generation);
    let hash = |name: &str| crate::secret::hash(name);
    for name in ["expired", "ended"] {
        scene.store.create_ticket(id, generation, &hash(name), ViewerWish::TakeOver).await.unwrap();
    }
    assert!(
        matches!(
            scene.store.create_ticket(id, generation + 1, &hash("x"), ViewerWish::TakeOver).await,
            Err(Error::SessionEnded(_))
        ),
        "no ticket for a placement that is not there"
    );
    sqlx::query("UPDATE tickets SET expires_at = expires_at - 30001 WHERE hash = ?")
        .bind(hash("expired"))
        .execute(&scene.store.writer)
        .await
        .unwrap();
    assert_eq!(scene.store.redeem_ticket(&hash("expired")).await.unwrap(), None);
    scene.store.log_off("ada", id).await.unwrap();
    assert_eq!(scene.store.redeem_ticket(&hash("ended")).await.unwrap(), None);
    assert!(matches!(
        scene.store.create_ticket(id, generation, &hash("y"), ViewerWish::TakeOver).await,
        Err(Error::SessionEnded(_))
    ));
}

#[tokio::test]
async fn a_log_off_ends_session_and_assignment_at_once_and_only_a_confirmation_frees_the_place() {
    let scene = Scene::new().await;
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let (desktop, ended) = scene.store.log_off("ada", session(&first)).await.unwrap();
    assert_eq!(ended.unwrap().desktop, desktop);
    let open: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM sessions WHERE ended_at IS NULL),
                (SELECT count(*) FROM assignments WHERE ended_at IS NULL),
                (SELECT count(*) FROM placements WHERE freed_at IS NULL)",
    )
    .fetch_one(&scene.store.reader)
    .await
    .unwrap();
    assert_eq!(open, (0, 0, 1));
    assert!(!scene.store.confirm_stopped(desktop, 1).await.unwrap(), "the generation has moved on");
    assert!(scene.store.confirm_stopped(desktop, 2).await.unwrap());
    assert!(!scene.store.confirm_stopped(desktop, 2).await.unwrap(), "once");
    assert!(!scene.store.is_live(desktop).await.unwrap());
}

#[tokio::test]
async fn actions_of_an_old_plan_change_nothing() {
    let scene = Scene::new().await;
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    scene.store.log_off("ada", session(&first)).await.unwrap();
    let id = first.desktop.id;
    assert_eq!(scene.store.fail(id, Some(1), "late").await.unwrap(), None);
    assert_eq!(scene.store.destroy(id, 1).await.unwrap(), None);
    scene.store.record_ready(id, 1, &Default::default()).await.unwrap();
    let row = scene.store.desktop(&id.to_string()).await.unwrap();
    assert_eq!((row.phase.as_str(), row.detail.as_str()), ("stopping", "logged off"));
}

#[tokio::test]
async fn a_refused_connect_leaves_the_database_as_it_was() {
    let scene = Scene::new().await;
    let ada = scene.user("ada").await;
    sqlx::query("UPDATE hosts SET facts = json_set(facts, '$.memory_mib', 100)")
        .execute(&scene.store.writer)
        .await
        .unwrap();
    let before = scene.store.audit(0, 1000).await.unwrap();
    assert!(matches!(scene.connect(ada).await, Err(Error::NoHost { .. })));
    assert_eq!(scene.store.desktops(None, true, "", 10).await.unwrap().len(), 0);
    assert_eq!(scene.store.audit(0, 1000).await.unwrap(), before);
}

#[tokio::test]
async fn an_image_is_found_by_name_and_by_unique_prefix_only() {
    let scene = Scene::new().await;
    let by = async |r: &str| scene.store.resolve_image(r).await.map(|i| i.digest.to_string());
    assert_eq!(by("debian-desktop").await.unwrap(), "ab".repeat(32));
    assert_eq!(by("abababab").await.unwrap(), "ab".repeat(32));
    for unclear in ["abababa", "abababac", "fedora"] {
        assert!(matches!(by(unclear).await, Err(Error::ImageUnclear(_))), "{unclear}");
    }
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.db");
    let store = Store::open(&file).await.unwrap();
    store.note("system", "test.note", "x", "y").await.unwrap();
    // Not closed: as after a kill.
    let again = Store::open(&file).await.unwrap();
    assert_eq!(again.audit(0, 10).await.unwrap().len(), 1);
    drop(store);
}
