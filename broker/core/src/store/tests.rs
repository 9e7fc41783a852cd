//! What the store promises, shown on every engine: memory, SQLite, and a PostgreSQL server.

use super::*;
use crate::plan::{HostSeen, World};
use lucarne_control::agent::{DesktopObserved, Followed, Hello, HostFacts, Observed, PROTOCOL_VERSION};
use lucarne_control::api::{NewPool, NewUser};
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::spec::{
    ClipboardPolicy, ImageDigest, ImageInfo, NetworkPolicy, RecordingPolicy, TemplateSpec,
};
use lucarne_control::viewer::{ShadowPolicy, ViewerWish};
use lucarne_control::{BrokerId, DesktopId, HostId, SessionId, UserId};
use lucarne_db::tables::{
    Assignment, Broker, Desktop, Host, Placement, Pool, Session, Ticket, Timer, TimerKind,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use uuid::Uuid;

lucarne_postgres::on_each_engine!(
    scene:
    nothing_can_be_doubled,
    desktops_and_sessions_are_told_of_their_pools_sound_and_clipboard,
    a_desktop_that_had_a_user_cannot_be_assigned_again_even_when_it_is_free,
    of_a_thousand_redemptions_at_once_one_wins,
    a_ticket_dies_with_its_time_its_session_and_its_placement,
    a_log_off_ends_session_and_assignment_at_once_and_only_a_confirmation_frees_the_place,
    what_is_said_late_changes_nothing,
    a_link_that_another_replaced_changes_nothing,
    a_silent_broker_is_ended_and_what_it_was_linked_to_is_out_of_reach,
    a_floating_desktop_whose_host_is_lost_is_replaced_where_there_is_a_place,
    a_host_is_declared_dead_only_as_it_was_seen,
    a_database_that_was_put_back_is_followed_again_and_makes_nothing_anew,
    a_refused_connect_leaves_the_database_as_it_was,
    an_image_is_found_by_name_and_by_unique_prefix_only,
    a_user_who_connects_many_times_at_once_has_one_desktop_and_one_session,
    a_pool_gives_no_more_desktops_than_it_may_however_many_ask_at_once,
    a_host_is_promised_no_more_than_it_may_however_many_ask_at_once,
    the_last_administrator_stays_even_when_two_are_deleted_at_once,
    lists_go_on_where_the_page_before_ended,
);

fn secret_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

pub(super) async fn scene(db: Db) -> Scene {
    Scene::new(db).await
}

/// No host is linked to this broker, and nothing has failed.
pub(super) struct Fine;

impl World for Fine {
    fn host(&self, _: HostId, _: &TemplateSpec) -> Option<HostSeen> {
        None
    }
    fn failure(&self, _: HostId, _: DesktopId, _: u64) -> Option<String> {
        None
    }
}

pub(super) struct Scene {
    pub store: Store,
    db: Db,
    broker: BrokerId,
    pub link: Link,
}

fn hello(memory_mib: u64) -> Hello {
    let facts = HostFacts {
        cpus: 64,
        memory_mib,
        driver: "qemu".to_owned(),
        driver_version: "10".to_owned(),
        accel: "tcg".to_owned(),
        accel_reason: String::new(),
        network: String::new(),
    };
    Hello {
        protocol: PROTOCOL_VERSION,
        host: "attic".to_owned(),
        version: "0".to_owned(),
        facts,
        followed: Followed::default(),
        desktops: 0,
        streams: None,
    }
}

pub(super) fn new_pool(name: &str) -> NewPool {
    NewPool {
        name: name.to_owned(),
        description: String::new(),
        image: "debian-desktop".to_owned(),
        machine: None,
        network: NetworkPolicy::User,
        shadow: ShadowPolicy::Off,
        shadow_control: false,
        audio: None,
        clipboard: ClipboardPolicy::Both,
        recording: RecordingPolicy::default(),
        kind: Default::default(),
        ready: Default::default(),
        limits: Default::default(),
        power: Default::default(),
        placement: Default::default(),
        home: Default::default(),
        snapshots: Default::default(),
        max_desktops: Some(64),
        entitled_users: Vec::new(),
        entitled_groups: vec!["everyone".to_owned()],
    }
}

impl Scene {
    async fn new(db: Db) -> Self {
        let store = Store::new(db.clone());
        let broker = store.start_broker("test").await.unwrap();
        let link = store.link(&hello(65536), &Origin::Here, broker).await.unwrap();
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
        store.set_host_images(&link, std::slice::from_ref(&image)).await.unwrap();
        store.create_pool("admin", &new_pool("desk"), &image.digest).await.unwrap();
        Self { store, db, broker, link }
    }

    pub async fn user(&self, name: &str) -> UserId {
        let new = NewUser { name: name.to_owned(), password: String::new(), role: None, groups: Vec::new() };
        self.store.create_user("admin", &new, "hash").await.unwrap().id
    }

    /// What the host says of a desktop of generation 1, put on record.
    async fn says(&self, desktop: DesktopId, phase: Phase) -> Result<Recorded> {
        self.says_by(&self.link, desktop, phase).await
    }

    async fn says_by(&self, link: &Link, desktop: DesktopId, phase: Phase) -> Result<Recorded> {
        let seen = DesktopObserved {
            desktop,
            generation: 1,
            wish: 1,
            phase,
            detail: String::new(),
            endpoint: None,
            timings: Default::default(),
        };
        self.store.record(link, &Observed { desktops: vec![seen], ..Observed::default() }).await
    }

    /// Whether the host's word that it is gone frees the place.
    async fn frees(&self, desktop: DesktopId) -> bool {
        self.says(desktop, Phase::Stopped).await.unwrap().destroyed == [desktop]
    }

    async fn connect(&self, user: UserId) -> Result<Assigned> {
        self.connect_to(user, "desk").await
    }

    pub async fn connect_to(&self, user: UserId, pool: &str) -> Result<Assigned> {
        let request = ConnectRequest {
            user,
            actor: "test".to_owned(),
            pool: pool.to_owned(),
            session: true,
            clock: std::time::Instant::now,
        };
        self.store.connect(request, Arc::new(Fine)).await
    }

    async fn insert<R: Row + Sync>(&self, row: R) -> Result<(), Fault> {
        self.db.write(move |tx| tx.insert(&row)).await
    }

    pub async fn all<R: Row + Sync>(&self, select: impl Fn() -> Select<R> + Send + 'static) -> Vec<R> {
        self.db.read(move |tx| tx.list(select())).await.unwrap()
    }

    /// Something is to be done at that time.
    pub async fn set_timer(&self, kind: TimerKind, subject: Uuid, at: i64) {
        let set = self.db.write(move |tx| {
            let Some(mut timer) = tx.lock(Timer::key(&kind, &subject))? else { return Ok(()) };
            timer.at = at;
            tx.update(&timer)
        });
        set.await.unwrap();
    }

    /// The host has been out of reach for long.
    pub async fn lost_for_long(&self) {
        let id = self.link.host;
        let set = self.db.write(move |tx| {
            let Some(mut host) = tx.lock(Host::key(&id))? else { return Ok(()) };
            host.cut_at = Some(1);
            tx.update(&host)
        });
        set.await.unwrap();
    }

    /// What is counted beside the rows is what the rows say.
    pub async fn check_counts(&self) {
        let live: Vec<Placement> =
            self.all(Placement::all).await.into_iter().filter(|p: &Placement| p.freed_at.is_none()).collect();
        let host = self.all(Host::all).await.remove(0);
        let promised: u64 = live.iter().map(|p| p.memory_mib).sum();
        assert_eq!((host.desktops as usize, host.promised_mib), (live.len(), promised));
        assert_eq!(host.promised_vcpus, live.iter().map(|p| u64::from(p.vcpus)).sum::<u64>());
        for pool in self.all(Pool::all).await {
            let id = pool.id;
            assert_eq!(pool.desktops as usize, self.all(move || Desktop::live_of_pool(&id)).await.len());
        }
        for desktop in self.all(Desktop::all).await {
            let id = desktop.id;
            let placement = self.all(move || Placement::live(&id)).await.pop();
            let assigned = self.all(move || Assignment::of_desktop(&id)).await.pop();
            assert_eq!(desktop.placed.then_some(desktop.generation), placement.map(|p| p.generation));
            assert_eq!(desktop.assigned, assigned.is_some_and(|a| a.ended_at.is_none()));
        }
    }
}

fn is_double(result: &Result<(), Fault>) -> bool {
    matches!(result, Err(Fault::Double(_)))
}

fn session(assigned: &Assigned) -> SessionId {
    assigned.session.as_ref().unwrap().session.id
}

async fn nothing_can_be_doubled(scene: Scene) {
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let first = scene.connect(ada).await.unwrap();
    let second = scene.connect(ben).await.unwrap();
    let pool = scene.all(Pool::all).await[0].id;
    let (d1, d2) = (first.desktop.id, second.desktop.id);
    let assign = |desktop_id, user_id| Assignment {
        id: Uuid::now_v7(),
        desktop_id,
        user_id,
        pool_id: pool,
        created_at: 1,
        ended_at: None,
        end_reason: None,
    };
    assert!(is_double(&scene.insert(assign(d1, ben)).await), "a desktop has one owner");
    let free = DesktopId::generate();
    assert!(is_double(&scene.insert(assign(free, ada)).await), "a user has one of a pool");
    let mut place = scene.all(move || Placement::live(&d1)).await.remove(0);
    place.generation += 1;
    assert!(is_double(&scene.insert(place).await), "a desktop is at one place");
    let mut again = scene.all(move || Session::live_on(&d2)).await.remove(0);
    again.id = SessionId::generate();
    assert!(is_double(&scene.insert(again).await), "a desktop has one session");
    scene.check_counts().await;
}

async fn desktops_and_sessions_are_told_of_their_pools_sound_and_clipboard(scene: Scene) {
    let ada = scene.user("ada").await;
    let image = scene.store.pool("desk").await.unwrap().template.image;
    let quiet = NewPool {
        audio: Some(false),
        clipboard: ClipboardPolicy::FromDesktop,
        entitled_users: vec!["ada".to_owned()],
        entitled_groups: Vec::new(),
        ..new_pool("quiet")
    };
    let made = scene.store.create_pool("admin", &quiet, &image).await.unwrap();
    assert_eq!((made.policy.audio, made.policy.clipboard), (false, ClipboardPolicy::FromDesktop));
    let mut desktops = Vec::new();
    for (pool, audio, clipboard) in
        [("desk", true, ClipboardPolicy::Both), ("quiet", false, ClipboardPolicy::FromDesktop)]
    {
        let connected = scene.connect_to(ada, pool).await.unwrap();
        assert_eq!(scene.store.session(session(&connected)).await.unwrap().session.clipboard, clipboard);
        desktops.push((connected.desktop.id, audio, clipboard));
    }
    let desired = scene.store.desired(&scene.link).await.unwrap();
    let told: Vec<_> = desired.desktops.iter().map(|d| (d.desktop, d.audio, d.clipboard)).collect();
    desktops.sort_by_key(|(id, ..)| id.to_string());
    assert_eq!(told, desktops);
}

async fn a_desktop_that_had_a_user_cannot_be_assigned_again_even_when_it_is_free(scene: Scene) {
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let first = scene.connect(ada).await.unwrap();
    scene.store.log_off("ada", session(&first)).await.unwrap();
    let id = first.desktop.id;
    let mut again = scene.all(move || Assignment::of_desktop(&id)).await.remove(0);
    (again.id, again.user_id, again.ended_at) = (Uuid::now_v7(), ben, None);
    assert!(is_double(&scene.insert(again).await));
}

async fn of_a_thousand_redemptions_at_once_one_wins(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let hash = secret_hash("ticket");
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

async fn a_ticket_dies_with_its_time_its_session_and_its_placement(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let (id, generation) = (session(&first), first.desktop.generation);
    let hash = |name: &str| secret_hash(name);
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
    let old = hash("expired");
    let aged = scene.db.write(move |tx| {
        let mut ticket = tx.lock(Ticket::key(&old))?.unwrap();
        ticket.expires_at -= 30_001;
        tx.update(&ticket)
    });
    aged.await.unwrap();
    assert_eq!(scene.store.redeem_ticket(&hash("expired")).await.unwrap(), None);
    scene.store.log_off("ada", id).await.unwrap();
    assert_eq!(scene.store.redeem_ticket(&hash("ended")).await.unwrap(), None);
    assert!(matches!(
        scene.store.create_ticket(id, generation, &hash("y"), ViewerWish::TakeOver).await,
        Err(Error::SessionEnded(_))
    ));
}

async fn a_log_off_ends_session_and_assignment_at_once_and_only_a_confirmation_frees_the_place(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let (desktop, ended) = scene.store.log_off("ada", session(&first)).await.unwrap();
    assert_eq!(ended.unwrap().desktop, desktop);
    let open = (
        scene.all(Session::live).await.len(),
        scene.all(Assignment::all).await.iter().filter(|a| a.ended_at.is_none()).count(),
        scene.all(Placement::all).await.iter().filter(|p| p.freed_at.is_none()).count(),
    );
    assert_eq!(open, (0, 0, 1));
    for not_yet in [Phase::Starting, Phase::Ready, Phase::Stopping, Phase::Failed] {
        assert!(scene.says(desktop, not_yet).await.unwrap().is_empty(), "{not_yet:?}");
    }
    assert!(scene.frees(desktop).await);
    assert!(!scene.frees(desktop).await, "once");
    assert!(scene.store.desktop(&desktop.to_string()).await.unwrap().ended);
    scene.check_counts().await;
}

async fn what_is_said_late_changes_nothing(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    scene.store.log_off("ada", session(&first)).await.unwrap();
    let id = first.desktop.id;
    assert_eq!(scene.store.fail(id, "late").await.unwrap(), None);
    for late in [Phase::Failed, Phase::Ready] {
        assert!(scene.says(id, late).await.unwrap().is_empty());
    }
    let row = scene.store.desktop(&id.to_string()).await.unwrap();
    assert_eq!((row.phase.as_str(), row.detail.as_str()), ("stopping", "logged off"));
}

async fn a_refused_connect_leaves_the_database_as_it_was(scene: Scene) {
    let ada = scene.user("ada").await;
    scene.store.link(&hello(100), &Origin::Here, scene.broker).await.unwrap();
    let before = scene.store.audit(None, 1000).await.unwrap();
    assert!(matches!(scene.connect(ada).await, Err(Error::NoHost { .. })));
    assert_eq!(scene.store.desktops(&Reach::everywhere(), true, None, 10).await.unwrap().len(), 0);
    assert_eq!(scene.store.audit(None, 1000).await.unwrap(), before);
}

async fn an_image_is_found_by_name_and_by_unique_prefix_only(scene: Scene) {
    let by = async |r: &str| scene.store.resolve_image(r).await.map(|i| i.digest.to_string());
    assert_eq!(by("debian-desktop").await.unwrap(), "ab".repeat(32));
    assert_eq!(by("abababab").await.unwrap(), "ab".repeat(32));
    for unclear in ["abababa", "abababac", "fedora"] {
        assert!(matches!(by(unclear).await, Err(Error::ImageUnclear(_))), "{unclear}");
    }
}

/// What tasks that are all started at once give.
async fn at_once<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

fn request(user: UserId) -> ConnectRequest {
    ConnectRequest {
        user,
        actor: "test".to_owned(),
        pool: "desk".to_owned(),
        session: true,
        clock: std::time::Instant::now,
    }
}

async fn a_user_who_connects_many_times_at_once_has_one_desktop_and_one_session(scene: Scene) {
    let ada = scene.user("ada").await;
    let image = scene.store.pool("desk").await.unwrap().template.image;
    // The last one of a pool is theirs for all of their requests.
    let last = NewPool { max_desktops: Some(1), ..new_pool("last") };
    scene.store.create_pool("admin", &last, &image).await.unwrap();
    for pool in ["desk", "last"] {
        let connects = (0..40).map(|_| {
            let store = scene.store.clone();
            let request = ConnectRequest { pool: pool.to_owned(), ..request(ada) };
            async move { store.connect(request, Arc::new(Fine)).await.unwrap() }
        });
        let got = at_once(connects).await;
        assert_eq!(got.iter().filter(|a| a.fresh).count(), 1);
        assert!(got.iter().all(|a| a.desktop.id == got[0].desktop.id && session(a) == session(&got[0])));
    }
    scene.check_counts().await;
}

async fn a_pool_gives_no_more_desktops_than_it_may_however_many_ask_at_once(scene: Scene) {
    let image = scene.store.pool("desk").await.unwrap().template.image;
    let small = NewPool { max_desktops: Some(7), ..new_pool("small") };
    scene.store.create_pool("admin", &small, &image).await.unwrap();
    let mut users = Vec::new();
    for n in 0..20 {
        users.push(scene.user(&format!("user-{n}")).await);
    }
    let connects = users.into_iter().map(|user| {
        let store = scene.store.clone();
        let request = ConnectRequest { pool: "small".to_owned(), ..request(user) };
        async move { store.connect(request, Arc::new(Fine)).await }
    });
    let got = at_once(connects).await;
    assert_eq!(got.iter().filter(|a| a.is_ok()).count(), 7);
    assert!(got.iter().all(|a| matches!(a, Ok(_) | Err(Error::PoolFull { max: 7, .. }))));
    scene.check_counts().await;
}

async fn a_host_is_promised_no_more_than_it_may_however_many_ask_at_once(mut scene: Scene) {
    // Twice its memory is promised: five desktops of 1 GiB.
    scene.link = scene.store.link(&hello(2600), &Origin::Here, scene.broker).await.unwrap();
    let mut users = Vec::new();
    for n in 0..20 {
        users.push(scene.user(&format!("user-{n}")).await);
    }
    let connects = users.into_iter().map(|user| {
        let store = scene.store.clone();
        async move { store.connect(request(user), Arc::new(Fine)).await }
    });
    let got = at_once(connects).await;
    assert_eq!(got.iter().filter(|a| a.is_ok()).count(), 5);
    assert!(got.iter().all(|a| matches!(a, Ok(_) | Err(Error::NoHost { .. }))));
    scene.check_counts().await;
    let first = got.into_iter().find_map(Result::ok).unwrap();
    let (desktop, _) = scene.store.log_off("test", session(&first)).await.unwrap();
    assert!(scene.frees(desktop).await);
    let late = scene.user("late").await;
    assert_eq!(scene.connect(late).await.unwrap().desktop.desired, DesiredState::Running);
    scene.check_counts().await;
}

async fn the_last_administrator_stays_even_when_two_are_deleted_at_once(scene: Scene) {
    use lucarne_control::api::Role;
    for name in ["ada", "ben"] {
        let role = Some(Role::Administrator);
        let new = NewUser { name: name.to_owned(), password: String::new(), role, groups: Vec::new() };
        scene.store.create_user("admin", &new, "hash").await.unwrap();
    }
    let deletions = ["ada", "ben"].into_iter().map(|name| {
        let store = scene.store.clone();
        async move { store.delete_user("admin", name).await }
    });
    let done = at_once(deletions).await;
    assert_eq!(done.iter().filter(|d| d.is_ok()).count(), 1);
    assert!(done.iter().all(|d| matches!(d, Ok(_) | Err(Error::LastAdministrator(_)))));
}

async fn lists_go_on_where_the_page_before_ended(scene: Scene) {
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    for n in 0..6 {
        let done = scene.connect(if n % 2 == 0 { ada } else { ben }).await.unwrap();
        scene.store.log_off("test", session(&done)).await.unwrap();
        assert!(scene.frees(done.desktop.id).await);
    }
    let all = scene.store.desktops(&Reach::everywhere(), true, None, 100).await.unwrap();
    assert_eq!(all.len(), 6);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = scene.store.desktops(&Reach::own(ada), true, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        paged.extend(page.iter().map(|d| d.id));
    }
    let wanted: Vec<_> = all.iter().filter(|d| d.user.as_ref().unwrap().0 == ada).map(|d| d.id).collect();
    assert_eq!((paged.len(), paged), (3, wanted));
    assert!(scene.store.desktops(&Reach::own(ada), false, None, 2).await.unwrap().is_empty());
    assert_eq!(scene.store.sessions(&Reach::own(ben), true, None, 2).await.unwrap().len(), 2);
}

async fn a_link_that_another_replaced_changes_nothing(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let other = scene.store.start_broker("other").await.unwrap();
    let newer = scene.store.link(&hello(65536), &Origin::Here, other).await.unwrap();
    assert!(newer.epoch > scene.link.epoch);
    let lost = |result: Result<_>| matches!(result, Err(Error::LinkLost { .. }));
    for phase in [Phase::Ready, Phase::Failed] {
        assert!(lost(scene.says(first.desktop.id, phase).await.map(drop)));
    }
    assert!(lost(scene.store.desired(&scene.link).await.map(drop)));
    scene.store.unlink(&scene.link, "late").await.unwrap();
    let row = scene.store.desktop(&first.desktop.id.to_string()).await.unwrap();
    assert!(row.phase == Phase::Placing && row.host.unwrap().online);
    assert_eq!(scene.says_by(&newer, first.desktop.id, Phase::Ready).await.unwrap().noted.len(), 1);
}

impl Scene {
    /// As if the broker had said nothing, and its host had been cut off, for so long.
    async fn passes(&self, ms: i64) {
        let (broker, host) = (self.broker, self.link.host);
        let aged = self.db.write(move |tx| {
            if let Some(mut broker) = tx.lock(Broker::key(&broker))? {
                broker.seen_at -= ms;
                tx.update(&broker)?;
            }
            let mut host = tx.lock(Host::key(&host))?.unwrap();
            host.cut_at = host.cut_at.map(|at| at - ms);
            tx.update(&host)
        });
        aged.await.unwrap();
    }
}

async fn a_silent_broker_is_ended_and_what_it_was_linked_to_is_out_of_reach(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    scene.store.session_connected(session(&first), scene.broker).await.unwrap();
    assert_eq!(scene.store.end_silent_brokers().await.unwrap(), Swept::default());
    scene.passes(SILENCE + 1000).await;
    let other = scene.store.start_broker("other").await.unwrap();
    assert_eq!(scene.store.end_silent_brokers().await.unwrap().hosts, [scene.link.host]);
    assert!(matches!(scene.store.beat(scene.broker).await, Err(Error::BrokerEnded)));
    assert!(matches!(
        scene.store.link(&hello(65536), &Origin::Here, scene.broker).await,
        Err(Error::BrokerEnded)
    ));
    assert!(matches!(scene.says(first.desktop.id, Phase::Ready).await, Err(Error::LinkLost { .. })));
    let row = scene.store.session(session(&first)).await.unwrap().session;
    assert_eq!(row.state, lucarne_control::api::SessionState::Disconnected);
    assert_eq!(scene.store.hosts_online().await.unwrap(), 0);
    scene.store.link(&hello(65536), &Origin::Here, other).await.unwrap();
    assert_eq!(scene.store.hosts_online().await.unwrap(), 1);
}

async fn a_floating_desktop_whose_host_is_lost_is_replaced_where_there_is_a_place(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    scene.store.unlink(&scene.link, "cut").await.unwrap();
    scene.passes(crate::plan::LOST_AFTER - 5000).await;
    assert_eq!(scene.connect(ada).await.unwrap().desktop.id, first.desktop.id, "it may come back");
    scene.passes(6000).await;
    let kept = scene.connect(ada).await.unwrap();
    assert_eq!(kept.desktop.id, first.desktop.id, "there is no place for another");
    let cellar = Hello { host: "cellar".to_owned(), ..hello(65536) };
    let cellar = scene.store.link(&cellar, &Origin::Here, scene.broker).await.unwrap();
    let image = scene.store.images(None, 1).await.unwrap().remove(0);
    let image = ImageInfo {
        digest: image.digest,
        name: image.name,
        version: image.version,
        description: String::new(),
        format: "qcow2".to_owned(),
        virtual_size: 1,
        stored_size: 1,
        created_at: 1,
        source: String::new(),
        guest_agent: true,
    };
    scene.store.set_host_images(&cellar, &[image]).await.unwrap();
    let fresh = scene.connect(ada).await.unwrap();
    assert_ne!(fresh.desktop.id, first.desktop.id);
    assert_eq!(fresh.desktop.host.unwrap().name, "cellar");
    assert_eq!(fresh.replaced.unwrap().desktop, first.desktop.id);
    let old = scene.store.desktop(&first.desktop.id.to_string()).await.unwrap();
    assert!(old.detail.contains("attic has been out of reach") && !old.ended, "{}", old.detail);
}

async fn a_host_is_declared_dead_only_as_it_was_seen(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let seen = scene.store.host("attic").await.unwrap();
    let fence = || scene.store.fence_host("admin", seen.id, seen.epoch, "its mainboard burnt");
    assert!(matches!(fence().await, Err(Error::InUse { .. })), "it is connected");
    scene.store.unlink(&scene.link, "cut").await.unwrap();
    let again = scene.store.link(&hello(65536), &Origin::Here, scene.broker).await.unwrap();
    scene.store.unlink(&again, "cut").await.unwrap();
    assert!(matches!(fence().await, Err(Error::InUse { .. })), "it was connected since");
    let ended = scene.store.fence_host("admin", seen.id, again.epoch, "its mainboard burnt").await.unwrap();
    assert_eq!(ended[0].desktop, first.desktop.id);
    let row = scene.store.desktop(&first.desktop.id.to_string()).await.unwrap();
    assert!(row.ended && row.detail.contains("its mainboard burnt"), "{row:?}");
    // Should it come back, it is told to have nothing.
    let back = scene.store.link(&hello(65536), &Origin::Here, scene.broker).await.unwrap();
    assert_eq!(scene.store.desired(&back).await.unwrap().desktops, []);
    let all: Vec<Placement> = scene.all(Placement::all).await;
    assert!(all.iter().all(|p| p.freed_at.is_some()));
}

async fn a_database_that_was_put_back_is_followed_again_and_makes_nothing_anew(scene: Scene) {
    let ada = scene.user("ada").await;
    let first = scene.connect(ada).await.unwrap();
    let hash = secret_hash("ticket");
    scene.store.create_ticket(session(&first), 1, &hash, ViewerWish::TakeOver).await.unwrap();
    // The host has followed what this database does not know of.
    let followed = Followed { epoch: scene.link.epoch + 7, revision: 1 };
    let ahead = Hello { followed, ..hello(65536) };
    let refused = scene.store.link(&ahead, &Origin::Here, scene.broker).await.unwrap_err().to_string();
    assert!(refused.contains("older than the host") && refused.contains("database restored"), "{refused}");
    scene.store.restored("admin").await.unwrap();
    let broker = scene.store.start_broker("test").await.unwrap();
    let link = scene.store.link(&ahead, &Origin::Here, broker).await.unwrap();
    let desired = scene.store.desired(&link).await.unwrap();
    assert!(desired.epoch > followed.epoch && !desired.desktops[0].fresh);
    assert_eq!(scene.store.redeem_ticket(&hash).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.db");
    let store = Store::new(Db::sqlite(&file).await.unwrap());
    store.note("system", "test.note", "x", "y").await.unwrap();
    // Not closed: as after a kill.
    let again = Store::new(Db::sqlite(&file).await.unwrap());
    let log = again.audit(None, 10).await.unwrap();
    assert_eq!(log.iter().filter(|entry| entry.action == "test.note").count(), 1);
    drop(store);
}
