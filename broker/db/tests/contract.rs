//! What every engine does, shown on each: memory, SQLite, and a PostgreSQL server.

#![allow(clippy::unwrap_used)]

use lucarne_control::api::Role;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::spec::ImageDigest;
use lucarne_control::viewer::ViewerWish;
use lucarne_control::{DesktopId, HostId, PoolId, SessionId, UserId};
use lucarne_db::tables::{
    self, Assignment, Audit, Counter, Desktop, Group, HostImage, Image, Membership, Placement, PoolPolicy,
    Ticket, User,
};
use lucarne_db::value::Json;
use lucarne_db::{Db, Fault, Row, audit};
use uuid::Uuid;

lucarne_postgres::on_each_engine!(
    same:
    a_row_is_read_back_as_it_was_written,
    what_is_refused_leaves_nothing_behind,
    what_must_not_be_double_is_not,
    an_ended_row_makes_room_for_the_next,
    rows_come_in_the_order_of_their_index_and_page_by_page,
    text_is_ordered_by_bytes_and_any_character_can_be_kept,
    a_double_is_tried_again_and_may_then_be_refused_with_a_reason,
    of_many_that_take_one_ticket_one_wins,
    counts_that_many_raise_at_once_lose_nothing,
    no_share_is_held_while_another_changes_the_row,
    claims_never_get_the_same_row,
    a_fault_that_was_swallowed_keeps_nothing,
    a_panic_keeps_nothing_and_the_next_is_served,
    a_number_that_does_not_fit_is_kept_as_the_most_that_does,
    the_log_is_a_chain_in_each_strand,
    a_strand_names_the_others_again_and_again,
    ids_and_times_go_on,
    what_reads_changes_nothing,
    a_closed_database_says_so,
);

/// The suite is of the database itself.
async fn same(db: Db) -> Db {
    db
}

fn user(name: &str) -> User {
    User {
        id: UserId::generate(),
        name: name.to_owned(),
        role: Role::User,
        password_hash: String::new(),
        max_desktops: None,
        created_at: 5,
        deleted_at: None,
    }
}

fn desktop(name: &str, pool: PoolId) -> Desktop {
    Desktop {
        id: DesktopId::generate(),
        pool_id: pool,
        name: name.to_owned(),
        machine_id: Uuid::new_v4().simple().to_string(),
        mac: name.to_owned(),
        desired: DesiredState::Running,
        desired_gen: 1,
        phase: Phase::Placing,
        detail: "a detail".to_owned(),
        timings: Json::default(),
        host_id: None,
        generation: 0,
        placed: false,
        held: false,
        endpoint: None,
        user_id: None,
        assigned: false,
        created_at: 5,
        ended_at: None,
        launch: None,
        policy: Some(Json(PoolPolicy { audio: false, ..PoolPolicy::default() })),
        persistent: true,
        taken_at: None,
        disk_id: None,
        back_to: None,
        back_gen: 0,
        origin_id: None,
    }
}

fn ticket(hash: &[u8]) -> Ticket {
    Ticket {
        hash: hash.to_vec(),
        session_id: SessionId::generate(),
        generation: 3,
        wish: ViewerWish::Share,
        shadow_id: None,
        expires_at: i64::MAX,
        used_at: None,
    }
}

async fn insert<R: Row + Sync>(db: &Db, row: R) -> Result<(), Fault> {
    db.write(move |tx| tx.insert(&row)).await
}

async fn a_row_is_read_back_as_it_was_written(db: Db) {
    let (ada, desk, pass) = (user("ada"), desktop("desk-1", PoolId::generate()), ticket(&[0, 255, 7]));
    let rows = (ada.clone(), desk.clone(), pass.clone());
    db.write(move |tx| {
        tx.insert(&rows.0)?;
        tx.insert(&rows.1)?;
        tx.insert(&rows.2)
    })
    .await
    .unwrap();
    let (id, desk_id) = (ada.id, desk.id);
    let found = db
        .read(move |tx| {
            let users = (tx.peek(User::key(&id))?, tx.find(User::named("ada"))?);
            let all = tx.peek_all([User::key(&id), User::key(&UserId::generate()), User::key(&id)])?;
            Ok::<_, Fault>((
                users,
                all,
                tx.peek(Desktop::key(&desk_id))?,
                tx.peek(Ticket::key(&[0, 255, 7]))?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(found.0, (Some(ada.clone()), Some(ada.clone())));
    assert_eq!((found.1, found.2, found.3), (vec![ada], Some(desk), Some(pass)));
    let changed = db
        .write(move |tx| {
            let mut ada = tx.lock(User::key(&id))?.unwrap();
            ada.role = Role::Administrator;
            ada.deleted_at = Some(9);
            tx.update(&ada)?;
            let gone = tx.lock(Desktop::key(&desk_id))?.unwrap();
            tx.delete(gone)?;
            let again = tx.remove(Desktop::key(&desk_id))?;
            Ok::<_, Fault>((tx.peek(User::key(&id))?.unwrap().role, tx.find(User::named("ada"))?, again))
        })
        .await
        .unwrap();
    assert_eq!(changed, (Role::Administrator, None, false));
}

#[derive(Debug, PartialEq)]
enum Refused {
    Because(&'static str),
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn what_is_refused_leaves_nothing_behind(db: Db) {
    insert(&db, user("ada")).await.unwrap();
    let refused = db
        .write(|tx| {
            tx.insert(&user("ben"))?;
            let mut ada = tx.lock_first(User::named("ada"))?.unwrap();
            ada.name = "eve".to_owned();
            tx.update(&ada)?;
            tx.audit("eve", "user.renamed", "ada", "")?;
            let seen = tx.list(User::living())?.len();
            tx.delete(ada)?;
            Err::<(), _>(Refused::Because(if seen == 2 {
                "changed my mind"
            } else {
                "it sees not what it did"
            }))
        })
        .await;
    assert_eq!(refused, Err(Refused::Because("changed my mind")));
    let (names, log) =
        db.read(|tx| Ok::<_, Fault>((tx.list(User::living())?, tx.list(Audit::all())?))).await.unwrap();
    assert_eq!(names.into_iter().map(|u| u.name).collect::<Vec<_>>(), ["ada"]);
    assert!(log.is_empty());
}

async fn what_must_not_be_double_is_not(db: Db) {
    let (pool, host, desk) = (PoolId::generate(), HostId::generate(), DesktopId::generate());
    let placement = |generation, freed_at| Placement {
        desktop_id: desk,
        generation,
        host_id: host,
        memory_mib: 1,
        vcpus: 1,
        created_at: 1,
        freed_at,
        reason: None,
    };
    let assignment = |user: UserId, desktop_id: DesktopId, ended_at| Assignment {
        id: Uuid::now_v7(),
        desktop_id,
        user_id: user,
        pool_id: pool,
        created_at: 1,
        ended_at,
        end_reason: None,
    };
    let (ada, ben) = (UserId::generate(), UserId::generate());
    insert(&db, placement(1, None)).await.unwrap();
    insert(&db, assignment(ada, desk, None)).await.unwrap();
    let double = |done: Result<(), Fault>, what: &str| {
        assert!(matches!(done, Err(Fault::Double(_))), "{what}: {done:?}")
    };
    double(insert(&db, placement(1, Some(1))).await, "the same key");
    double(insert(&db, placement(2, None)).await, "two live placements");
    double(insert(&db, assignment(ben, desk, Some(1))).await, "two assignments in a desktop's life");
    double(
        insert(&db, assignment(ada, DesktopId::generate(), None)).await,
        "two desktops of a pool for one user",
    );
    // An update is held to it too.
    insert(&db, placement(2, Some(1))).await.unwrap();
    let revived = db
        .write(move |tx| {
            let mut old = tx.lock(Placement::key(&desk, &2))?.unwrap();
            old.freed_at = None;
            tx.update(&old)
        })
        .await;
    double(revived, "a freed placement lives again");
    let live = db.read(move |tx| tx.list(Placement::live(&desk))).await.unwrap();
    assert_eq!(live, [placement(1, None)]);
}

async fn an_ended_row_makes_room_for_the_next(db: Db) {
    for n in 0..3 {
        let mut ada = user("ada");
        insert(&db, ada.clone()).await.unwrap();
        assert!(insert(&db, user("ada")).await.is_err(), "{n}");
        let id = ada.id;
        ada.deleted_at = Some(n);
        db.write(move |tx| {
            let mut row = tx.lock(User::key(&id))?.unwrap();
            row.deleted_at = ada.deleted_at;
            tx.update(&row)
        })
        .await
        .unwrap();
    }
    assert_eq!(db.read(|tx| tx.count(User::all())).await.unwrap(), 3);
}

async fn rows_come_in_the_order_of_their_index_and_page_by_page(db: Db) {
    let (one, two) = (PoolId::generate(), PoolId::generate());
    let mut made = Vec::new();
    for n in 0..25 {
        let mut desk = desktop(&format!("desk-{n}"), if n % 5 == 0 { two } else { one });
        desk.ended_at = (n % 5 == 1).then_some(1);
        made.push(desk);
    }
    let rows = made.clone();
    db.write(move |tx| rows.iter().rev().try_for_each(|desk| tx.insert(desk))).await.unwrap();
    let wanted: Vec<_> =
        made.iter().filter(|d| d.pool_id == one && d.ended_at.is_none()).map(|d| d.id).collect();
    let mut paged = Vec::new();
    loop {
        let last = paged.last().copied();
        let page = db
            .read(move |tx| {
                let select = Desktop::live_of_pool(&one).limit(4);
                tx.list(match last {
                    Some(last) => select.after(&last),
                    None => select,
                })
            })
            .await
            .unwrap();
        assert!(page.len() <= 4);
        if page.is_empty() {
            break;
        }
        paged.extend(page.iter().map(|d| d.id));
    }
    assert_eq!(paged, wanted);
    let (first, last) = (wanted[0], wanted[wanted.len() - 1]);
    let (newest, until, count, all) = db
        .read(move |tx| {
            let newest = tx.list(Desktop::live_of_pool(&one).newest_first().limit(1))?;
            let until = tx.list(Desktop::live_of_pool(&one).up_to(&first))?;
            let count = tx.count(Desktop::live_of_pool(&one).after(&first))?;
            Ok::<_, Fault>((newest, until, count, tx.list(Desktop::all())?))
        })
        .await
        .unwrap();
    assert_eq!(newest.iter().map(|d| d.id).collect::<Vec<_>>(), [last]);
    assert_eq!(until.iter().map(|d| d.id).collect::<Vec<_>>(), [first]);
    assert_eq!(count, wanted.len() as u64 - 1);
    assert_eq!(all, made, "by the key");
    let found = db.read(|tx| tx.list(Ticket::by_expiry().up_to(&i64::MAX))).await.unwrap();
    assert!(found.is_empty());
}

async fn text_is_ordered_by_bytes_and_any_character_can_be_kept(db: Db) {
    let image = |version: &str| Image {
        digest: ImageDigest::try_from(format!(
            "{:0>64x}",
            version.bytes().fold(1, |n, b| n << 8 | u64::from(b))
        ))
        .unwrap(),
        name: "desk\0top".to_owned(),
        version: version.to_owned(),
        description: "🪟 \u{10ffff} '\"\\ %".to_owned(),
        virtual_size: 1 << 50,
        stored_size: 0,
        created_at: -4,
        source: String::new(),
    };
    for version in ["b", "a", "É", "B", "_", "10", "9"] {
        insert(&db, image(version)).await.unwrap();
    }
    let found = db.read(|tx| tx.list(Image::named("desk\0top"))).await.unwrap();
    assert_eq!(found.iter().map(|i| &*i.version).collect::<Vec<_>>(), ["10", "9", "B", "_", "a", "b", "É"]);
    assert_eq!((&*found[0].name, &found[0].description), ("desk\u{fffd}top", &image("").description));
    assert_eq!((found[0].virtual_size, found[0].created_at), (1 << 50, -4));
}

async fn a_double_is_tried_again_and_may_then_be_refused_with_a_reason(db: Db) {
    let tasks = (0..24).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(|tx| {
                if tx.find(User::named("ada"))?.is_some() {
                    return Err(Refused::Because("the name is taken"));
                }
                tx.insert(&user("ada")).map_err(Refused::from)
            })
            .await
        })
    });
    let mut made = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(()) => made += 1,
            refused => assert_eq!(refused, Err(Refused::Because("the name is taken"))),
        }
    }
    assert_eq!(made, 1);
}

async fn of_many_that_take_one_ticket_one_wins(db: Db) {
    insert(&db, ticket(b"secret")).await.unwrap();
    let tasks = (0..200).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(|tx| {
                let Some(mut ticket) = tx.lock(Ticket::key(b"secret"))? else { return Ok(false) };
                if ticket.used_at.is_some() {
                    return Ok(false);
                }
                ticket.used_at = Some(tx.now());
                tx.update(&ticket)?;
                Ok::<_, Fault>(true)
            })
            .await
            .unwrap()
        })
    });
    let mut won = 0;
    for task in tasks.collect::<Vec<_>>() {
        won += u32::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

async fn counts_that_many_raise_at_once_lose_nothing(db: Db) {
    let tasks = (0..100).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(|tx| {
                let mut counter = tx.lock(Counter::key(tables::REVISION))?.unwrap();
                counter.value += 1;
                tx.update(&counter)
            })
            .await
            .unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let counter = db.read(|tx| tx.peek(Counter::key(tables::REVISION))).await.unwrap();
    assert_eq!(counter.unwrap().value, 101);
}

/// Half of them join a group as long as it is called "open", and others close it: nobody joins a closed one.
async fn no_share_is_held_while_another_changes_the_row(db: Db) {
    for round in 0..8 {
        let group = db
            .write(move |tx| {
                let id = lucarne_control::GroupId(tx.uuid());
                let name = format!("open-{round}");
                tx.insert(&Group { id, name, max_desktops: None, created_at: 0 })?;
                Ok::<_, Fault>(id)
            })
            .await
            .unwrap();
        let tasks = (0..16).map(|n| {
            let db = db.clone();
            tokio::spawn(async move {
                db.write(move |tx| {
                    if n == 7 {
                        let mut row = tx.lock(Group::key(&group))?.unwrap();
                        row.name = format!("closed-{round}");
                        row.created_at = i64::try_from(tx.count(Membership::in_group(&group))?).unwrap();
                        return tx.update(&row);
                    }
                    if tx.share(Group::key(&group))?.unwrap().name.starts_with("open") {
                        let member = Membership { user_id: UserId(tx.uuid()), group_id: group };
                        tx.insert(&member)?;
                    }
                    Ok::<_, Fault>(())
                })
                .await
                .unwrap();
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let (members, row) = db
            .read(move |tx| {
                Ok::<_, Fault>((tx.count(Membership::in_group(&group))?, tx.peek(Group::key(&group))?))
            })
            .await
            .unwrap();
        assert_eq!(row.unwrap().created_at.unsigned_abs(), members, "somebody joined after it was closed");
    }
}

async fn claims_never_get_the_same_row(db: Db) {
    let pool = PoolId::generate();
    db.write(move |tx| (0..40).try_for_each(|n| tx.insert(&desktop(&format!("desk-{n}"), pool))))
        .await
        .unwrap();
    let tasks = (0..40).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(move |tx| {
                let Some(mut desk) = tx.claim(Desktop::live_of_pool(&pool).limit(1))?.pop() else {
                    return Ok(None);
                };
                desk.ended_at = Some(1);
                tx.update(&desk)?;
                Ok::<_, Fault>(Some(desk.id))
            })
            .await
            .unwrap()
        })
    });
    let mut got = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        got.extend(task.await.unwrap());
    }
    let count = got.len();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), count);
    let left = db.read(move |tx| tx.count(Desktop::live_of_pool(&pool))).await.unwrap();
    assert_eq!(left + count as u64, 40);
}

async fn a_fault_that_was_swallowed_keeps_nothing(db: Db) {
    let host =
        HostImage { host_id: HostId::generate(), digest: ImageDigest::try_from("ab".repeat(32)).unwrap() };
    insert(&db, host.clone()).await.unwrap();
    let done = db
        .write(move |tx| {
            tx.insert(&user("ada"))?;
            // The work takes no notice that this fails.
            let _ = tx.insert(&host);
            Ok::<_, Fault>(())
        })
        .await;
    assert!(matches!(done, Err(Fault::Double(_))), "{done:?}");
    assert_eq!(db.read(|tx| tx.count(User::all())).await.unwrap(), 0);
}

async fn a_panic_keeps_nothing_and_the_next_is_served(db: Db) {
    for _ in 0..20 {
        let done = db
            .write(|tx| {
                tx.insert(&user("ada"))?;
                if tx.now() > 0 {
                    panic!("a fault in the work");
                }
                Ok::<_, Fault>(())
            })
            .await;
        assert!(matches!(done, Err(Fault::Engine(_))), "{done:?}");
    }
    assert_eq!(db.read(|tx| tx.count(User::all())).await.unwrap(), 0);
    insert(&db, user("ada")).await.unwrap();
}

async fn a_number_that_does_not_fit_is_kept_as_the_most_that_does(db: Db) {
    let placed = Placement {
        desktop_id: DesktopId::generate(),
        generation: u64::MAX,
        host_id: HostId::generate(),
        memory_mib: 1,
        vcpus: 1,
        created_at: i64::MIN,
        freed_at: None,
        reason: None,
    };
    let id = placed.desktop_id;
    insert(&db, placed).await.unwrap();
    let read = db.read(move |tx| tx.find(Placement::live(&id))).await.unwrap().unwrap();
    assert_eq!((read.generation, read.created_at), (i64::MAX.unsigned_abs(), i64::MIN));
}

async fn the_log_is_a_chain_in_each_strand(db: Db) {
    let tasks = (0..60).map(|n| {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(move |tx| {
                tx.audit("ada", "thing.done", &format!("thing {n}"), "with a \0 in it")?;
                tx.audit("ada", "thing.done again", &format!("thing {n}"), "")?;
                if n % 3 == 0 { Err(Refused::Because("not this one")) } else { Ok(()) }
            })
            .await
            .is_ok()
        })
    });
    let mut kept = 0;
    for task in tasks.collect::<Vec<_>>() {
        kept += usize::from(task.await.unwrap());
    }
    let mut rows = db.read(|tx| tx.list(Audit::all())).await.unwrap();
    let began = rows.iter().filter(|row| row.action == audit::BEGAN).count();
    assert_eq!((rows.len() - began, kept), (80, 40));
    assert!(rows.iter().all(|row| (row.number == 1) == (row.action == audit::BEGAN)));
    let verified = audit::verify(&db, &[]).await.unwrap();
    assert_eq!((verified.faults, verified.rows, verified.heads.len()), (vec![], rows.len() as u64, began));
    rows.sort_by_key(|row| (row.strand, row.number));
    for strand in rows.chunk_by(|a, b| a.strand == b.strand) {
        let mut previous = vec![0; 32];
        for (i, row) in strand.iter().enumerate() {
            assert_eq!((row.number, &row.previous), (i as u64 + 1, &previous));
            assert_eq!(row.hash, audit::hash(row), "what is kept is what was hashed");
            previous.clone_from(&row.hash);
        }
    }
}

async fn a_strand_names_the_others_again_and_again(db: Db) {
    db.write(|tx| (0..2500).try_for_each(|n| tx.audit("ada", "count", &n.to_string(), ""))).await.unwrap();
    let rows = db.read(|tx| tx.list(Audit::all())).await.unwrap();
    let named: Vec<_> = rows.iter().filter(|row| row.action == audit::NAMES).collect();
    assert_eq!((rows.len(), named.len()), (2503, 2));
    let detail: Vec<lucarne_control::api::AuditHead> = serde_json::from_str(&named[1].detail).unwrap();
    assert_eq!((detail[0].strand, detail[0].number), (named[1].strand, named[1].number - 1));
    let verified = audit::verify(&db, &detail).await.unwrap();
    assert_eq!((verified.faults, verified.rows), (vec![], 2503));
}

async fn ids_and_times_go_on(db: Db) {
    let mut last = (0, Uuid::nil());
    for _ in 0..50 {
        let (before, now, ids) = db
            .write(|tx| {
                let before = tx.now();
                let ids: Vec<Uuid> = (0..20).map(|_| tx.uuid()).collect();
                Ok::<_, Fault>((before, tx.now(), ids))
            })
            .await
            .unwrap();
        assert_eq!(before, now, "a transaction has one time");
        assert!(now >= last.0, "time goes on");
        assert!(ids.is_sorted() && ids.windows(2).all(|w| w[0] != w[1]));
        last = (now, ids[19]);
    }
    assert!(last.0 > 1_700_000_000_000, "milliseconds since the epoch");
}

async fn what_reads_changes_nothing(db: Db) {
    // Some engines refuse it, and memory takes it back.
    let _ = db.read(|tx| tx.insert(&user("ada"))).await;
    assert_eq!(db.read(|tx| tx.count(User::all())).await.unwrap(), 0);
}

async fn a_closed_database_says_so(db: Db) {
    insert(&db, user("ada")).await.unwrap();
    db.close().await;
    let late = insert(&db, user("ben")).await;
    assert!(matches!(late, Err(Fault::Unavailable(_))), "{late:?}");
}
