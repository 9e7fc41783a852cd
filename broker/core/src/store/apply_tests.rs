//! What applying pools promises, shown on every engine.

use super::tests::{Scene, new_pool, scene};
use super::*;
use lucarne_control::api::NewPool;
use lucarne_control::apply::PlanAction;
use lucarne_control::spec::{
    ClipboardPolicy, ImageDigest, ImageInfo, MachineShape, RecordingMode, RecordingPolicy,
};
use lucarne_db::tables::{Audit, Group};

lucarne_postgres::on_each_engine!(
    scene:
    what_was_applied_is_unchanged_when_it_is_applied_again,
    what_changes_is_said_field_by_field_and_is_on_record,
    a_plan_that_is_outdated_is_not_carried_out,
    all_that_stands_in_the_way_is_said_at_once_and_nothing_is_done,
    a_pool_keeps_its_image_when_there_is_a_newer_one_of_that_name,
    pools_that_are_not_listed_are_deleted_only_where_that_is_asked_for,
    a_desktop_keeps_the_policy_that_it_was_made_with,
    of_many_who_apply_the_same_at_once_one_makes_the_pools,
);

fn wanted(pools: impl IntoIterator<Item = NewPool>) -> Wanted {
    Wanted { pools: pools.into_iter().collect(), prune: false }
}

fn actions(plan: &Plan) -> Vec<(&str, PlanAction)> {
    plan.pools.iter().map(|pool| (pool.pool.as_str(), pool.action)).collect()
}

fn for_users(pool: NewPool, users: &[&str]) -> NewPool {
    let users = users.iter().map(|user| (*user).to_owned()).collect();
    NewPool { entitled_users: users, entitled_groups: Vec::new(), ..pool }
}

impl Scene {
    async fn log(&self) -> Vec<(String, String, String)> {
        let rows: Vec<Audit> = self.all(Audit::all).await;
        // Each connection to the database begins its strand in its own time.
        let told = rows.into_iter().filter(|row| !row.action.starts_with("audit."));
        told.map(|row| (row.action, row.subject, row.detail)).collect()
    }

    async fn apply(&self, wanted: &Wanted) -> Plan {
        self.store.apply_pools("admin", &Reach::everywhere(), wanted, None).await.unwrap()
    }
}

async fn what_was_applied_is_unchanged_when_it_is_applied_again(scene: Scene) {
    scene.user("ada").await;
    let lab = NewPool { entitled_groups: vec!["staff".to_owned()], ..for_users(new_pool("lab"), &["ada"]) };
    // Who is named twice is meant once.
    let plain =
        NewPool { max_desktops: None, machine: None, ..for_users(new_pool("plain"), &["ada", "ada"]) };
    let wanted = wanted([lab, new_pool("desk"), plain]);
    let shown = scene.store.plan_pools(&Reach::everywhere(), &wanted).await.unwrap();
    use PlanAction::{Create, Unchanged};
    assert_eq!(actions(&shown), [("lab", Create), ("desk", Unchanged), ("plain", Create)]);
    assert_eq!((shown.new_groups.as_slice(), shown.obstacles.len()), (&["staff".to_owned()][..], 0));
    assert!(scene.store.pool("lab").await.is_err(), "it was only shown");
    let done =
        scene.store.apply_pools("admin", &Reach::everywhere(), &wanted, Some(&shown.revision)).await.unwrap();
    assert_eq!((done.pools, done.withdraws), (shown.pools, false));
    let lab = scene.store.pool("lab").await.unwrap();
    assert_eq!((lab.entitled_users, lab.entitled_groups), (vec!["ada".to_owned()], vec!["staff".to_owned()]));
    assert_eq!(scene.store.pool("plain").await.unwrap().max_desktops, 16);

    let log = scene.log().await;
    let again = scene.apply(&wanted).await;
    assert_eq!(actions(&again), [("lab", Unchanged), ("desk", Unchanged), ("plain", Unchanged)]);
    assert!(again.pools.iter().all(|pool| pool.changes.is_empty()) && !again.concerns_hosts());
    assert_eq!(scene.log().await, log);
}

async fn what_changes_is_said_field_by_field_and_is_on_record(scene: Scene) {
    scene.user("ada").await;
    scene.user("ben").await;
    scene.apply(&wanted([for_users(new_pool("lab"), &["ada"])])).await;
    let recording = RecordingPolicy { mode: RecordingMode::On, days: Some(30), mib: None };
    let other = NewPool {
        description: "The lab".to_owned(),
        max_desktops: Some(65),
        recording,
        ..for_users(new_pool("lab"), &["ben"])
    };
    let before = scene.log().await.len();
    let plan = scene.apply(&wanted([other])).await;
    let said: Vec<_> = plan.pools[0]
        .changes
        .iter()
        .map(|change| format!("{}: {} → {}", change.field, change.from, change.to))
        .collect();
    assert_eq!(
        said,
        [
            r#"description: "" → "The lab""#,
            r#"entitled_users: ["ada"] → ["ben"]"#,
            "max_desktops: 64 → 65",
            "recording.days: null → 30",
            r#"recording.mode: "off" → "on""#,
        ]
    );
    assert!(plan.withdraws);
    let row = scene.store.pool("lab").await.unwrap();
    assert_eq!(
        (row.max_desktops, row.policy.recording, row.description.as_str()),
        (65, recording, "The lab")
    );
    assert_eq!(row.entitled_users, ["ben"]);
    let log = scene.log().await.split_off(before);
    let actions: Vec<_> = log.iter().map(|(action, _, detail)| (action.as_str(), detail.as_str())).collect();
    let changed = r#"description: "" → "The lab", max_desktops: 64 → 65, recording.days: null → 30, recording.mode: "off" → "on""#;
    assert_eq!(
        actions,
        [("pool.changed", changed), ("pool.withdrawn", "user ada"), ("pool.entitled", "user ben")]
    );
}

async fn a_plan_that_is_outdated_is_not_carried_out(scene: Scene) {
    scene.user("ada").await;
    let lab = for_users(new_pool("lab"), &["ada"]);
    scene.apply(&wanted([lab.clone()])).await;
    let wanted = wanted([NewPool { max_desktops: Some(3), ..lab }]);
    let shown = scene.store.plan_pools(&Reach::everywhere(), &wanted).await.unwrap();
    // Who may use it has changed since: the plan did not say that it would be taken away.
    scene.store.entitle("admin", "lab", &Holder::Group("staff".to_owned())).await.unwrap();
    let refused =
        scene.store.apply_pools("admin", &Reach::everywhere(), &wanted, Some(&shown.revision)).await;
    assert!(matches!(refused, Err(Error::PlanOutdated)), "{refused:?}");
    assert_eq!(scene.store.pool("lab").await.unwrap().max_desktops, 64);
    let other = Wanted { prune: true, ..wanted.clone() };
    let anew = scene.store.plan_pools(&Reach::everywhere(), &wanted).await.unwrap().revision;
    let refused = scene.store.apply_pools("admin", &Reach::everywhere(), &other, Some(&anew)).await;
    assert!(matches!(refused, Err(Error::PlanOutdated)), "{refused:?}");
    scene.store.apply_pools("admin", &Reach::everywhere(), &wanted, Some(&anew)).await.unwrap();
    assert_eq!(scene.store.pool("lab").await.unwrap().max_desktops, 3);
}

async fn all_that_stands_in_the_way_is_said_at_once_and_nothing_is_done(scene: Scene) {
    let ada = scene.user("ada").await;
    scene.apply(&wanted([new_pool("lab"), new_pool("used")])).await;
    scene.connect_to(ada, "used").await.unwrap();
    let machine = MachineShape { memory_mib: 2048, ..MachineShape::default() };
    let wrong = Wanted {
        pools: vec![
            new_pool("fine"),
            NewPool {
                machine: Some(machine),
                max_desktops: Some(1),
                entitled_groups: vec!["made".to_owned()],
                ..for_users(new_pool("lab"), &["nobody", "ada", "noone"])
            },
            NewPool { image: "windows".to_owned(), ..new_pool("other") },
        ],
        prune: true,
    };
    let (pools, log) =
        (scene.store.pools(&Reach::everywhere(), None, 100).await.unwrap().len(), scene.log().await);
    let shown = scene.store.plan_pools(&Reach::everywhere(), &wrong).await.unwrap();
    let said = |obstacles: &[Obstacle]| -> Vec<_> {
        obstacles.iter().map(|o| (o.pool.clone(), o.field.unwrap_or_default())).collect()
    };
    let all = [("lab", "entitled_users"), ("lab", "entitled_users"), ("lab", "machine"), ("other", "image")]
        .into_iter()
        .chain([("used", "")])
        .map(|(pool, field)| (pool.to_owned(), field))
        .collect::<Vec<_>>();
    assert_eq!(said(&shown.obstacles), all);
    let Err(Error::PlanRefused(obstacles)) =
        scene.store.apply_pools("admin", &Reach::everywhere(), &wrong, None).await
    else {
        panic!("it was applied")
    };
    assert_eq!(said(&obstacles), all);
    let text = Error::PlanRefused(obstacles).to_string();
    for part in [
        "pool \"lab\": there is no user \"nobody\"; create the user first",
        "its machine is 1024 MiB, 2 vcpus, 1280x800",
        "there is no image \"windows\"; there are: debian-desktop",
        "the pool \"used\" is in use: 1 desktop(s) run",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        (scene.store.pools(&Reach::everywhere(), None, 100).await.unwrap().len(), scene.log().await),
        (pools, log)
    );
    assert!(scene.all(Group::all).await.iter().all(|group: &Group| group.name != "made"));
}

async fn a_pool_keeps_its_image_when_there_is_a_newer_one_of_that_name(scene: Scene) {
    let old = scene.store.pool("desk").await.unwrap().template.image;
    let image = |digest: &str, version: &str, created_at| ImageInfo {
        digest: ImageDigest::try_from(digest.repeat(32)).unwrap(),
        name: "debian-desktop".to_owned(),
        version: version.to_owned(),
        description: String::new(),
        format: "qcow2".to_owned(),
        virtual_size: 1,
        stored_size: 1,
        created_at,
        source: "recipe:x".to_owned(),
        guest_agent: true,
    };
    scene.store.set_host_images(&scene.link, &[image("ab", "1", 1), image("cd", "2", 2)]).await.unwrap();
    let plan = scene.store.plan_pools(&Reach::everywhere(), &wanted([new_pool("desk")])).await.unwrap();
    let said = plan.obstacles[0].to_string();
    let parts = [
        format!("its image is {old}, and \"debian-desktop\" is now {}", "cd".repeat(32)),
        format!("image = \"{old}\""),
    ];
    for part in parts {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let as_it_is = NewPool { image: old.to_string(), ..new_pool("desk") };
    assert_eq!(actions(&scene.apply(&wanted([as_it_is])).await), [("desk", PlanAction::Unchanged)]);
}

async fn pools_that_are_not_listed_are_deleted_only_where_that_is_asked_for(scene: Scene) {
    let all = wanted([new_pool("lab"), new_pool("old")]);
    scene.apply(&all).await;
    let one = wanted([new_pool("lab")]);
    assert_eq!(actions(&scene.apply(&one).await), [("lab", PlanAction::Unchanged)]);
    assert!(scene.store.pool("old").await.is_ok());
    let pruned = scene.apply(&Wanted { prune: true, ..one }).await;
    use PlanAction::{Delete, Unchanged};
    assert_eq!(actions(&pruned), [("lab", Unchanged), ("desk", Delete), ("old", Delete)]);
    assert!(pruned.concerns_hosts() && pruned.withdraws);
    let left: Vec<_> = scene
        .store
        .pools(&Reach::everywhere(), None, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|pool| pool.name)
        .collect();
    assert_eq!(left, ["lab"]);
    // A name that is free again can be used again.
    assert_eq!(actions(&scene.apply(&all).await), [("lab", Unchanged), ("old", PlanAction::Create)]);
}

async fn a_desktop_keeps_the_policy_that_it_was_made_with(scene: Scene) {
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let before = scene.connect_to(ada, "desk").await.unwrap();
    let recording = RecordingPolicy { mode: RecordingMode::Required, days: None, mib: None };
    let strict =
        NewPool { recording, clipboard: ClipboardPolicy::Off, audio: Some(false), ..new_pool("desk") };
    scene.apply(&wanted([strict])).await;
    let after = scene.connect_to(ben, "desk").await.unwrap();
    let told = scene.store.desired(&scene.link).await.unwrap();
    for (assigned, strict) in [(&before, false), (&after, true)] {
        let desired = told.desktops.iter().find(|d| d.desktop == assigned.desktop.id).unwrap();
        assert_eq!((desired.recording == recording, desired.audio), (strict, !strict));
        // And its user hears what is so.
        let id = assigned.session.as_ref().unwrap().session.id;
        let session = scene.store.session(id).await.unwrap().session;
        assert_eq!((session.recorded, session.clipboard == ClipboardPolicy::Off), (strict, strict));
    }
}

async fn of_many_who_apply_the_same_at_once_one_makes_the_pools(scene: Scene) {
    scene.user("ada").await;
    let same = wanted(["a", "b", "c"].map(|name| for_users(new_pool(name), &["ada"])));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, same) = (scene.store.clone(), same.clone());
            tokio::spawn(async move {
                store.apply_pools("admin", &Reach::everywhere(), &same, None).await.unwrap()
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        let plan = task.await.unwrap();
        made += plan.pools.iter().filter(|pool| pool.action == PlanAction::Create).count();
    }
    assert_eq!(made, 3);
    let log = scene.log().await;
    assert_eq!(log.iter().filter(|(action, ..)| action == "pool.created").count(), 4);
}
