//! What the store promises of idempotency keys, shown on every engine.

use super::idempotency::{Claim, KEPT, LONGEST};
use super::*;
use lucarne_db::tables::IdempotencyKey;
use tokio::task::JoinSet;

lucarne_postgres::on_each_engine!(
    scene:
    of_many_claims_at_once_one_is_new,
    an_answer_is_given_to_the_same_request_only,
    a_request_that_was_not_done_is_claimed_again,
    a_request_that_nobody_answers_is_unknown_and_not_done_again,
    a_key_is_forgotten_after_a_day,
);

struct Scene {
    store: Store,
    db: Db,
}

async fn scene(db: Db) -> Scene {
    Scene { store: Store::new(db.clone()), db }
}

impl Scene {
    async fn claim(&self, request: u8) -> Claim {
        self.store.claim_key(&[7; 32], &[request; 32]).await.unwrap()
    }

    /// As if the key had been claimed that long ago.
    async fn age(&self, ms: i64) {
        let aged = self.db.write(move |tx| {
            let mut row = tx.lock(IdempotencyKey::key(&[7; 32]))?.unwrap();
            row.claimed_at -= ms;
            row.expires_at -= ms;
            tx.update(&row)
        });
        aged.await.unwrap();
    }
}

async fn of_many_claims_at_once_one_is_new(scene: Scene) {
    let mut claims = JoinSet::new();
    for _ in 0..50 {
        let store = scene.store.clone();
        claims.spawn(async move { store.claim_key(&[7; 32], &[1; 32]).await.unwrap() });
    }
    let claims = claims.join_all().await;
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::New).count(), 1);
    assert!(claims.iter().all(|claim| matches!(claim, Claim::New | Claim::InProgress)));
}

async fn an_answer_is_given_to_the_same_request_only(scene: Scene) {
    assert_eq!(scene.claim(1).await, Claim::New);
    assert_eq!(scene.claim(2).await, Claim::Reused, "it is being done with another");
    scene.store.answer_key(&[7; 32], b"answer".to_vec()).await.unwrap();
    assert_eq!(scene.claim(1).await, Claim::Answered(b"answer".to_vec()));
    assert_eq!(scene.claim(2).await, Claim::Reused);
    assert_eq!(scene.store.claim_key(&[8; 32], &[2; 32]).await.unwrap(), Claim::New, "another key");
}

async fn a_request_that_was_not_done_is_claimed_again(scene: Scene) {
    assert_eq!(scene.claim(1).await, Claim::New);
    scene.store.release_key(&[7; 32]).await.unwrap();
    assert_eq!(scene.claim(2).await, Claim::New);
}

async fn a_request_that_nobody_answers_is_unknown_and_not_done_again(scene: Scene) {
    assert_eq!(scene.claim(1).await, Claim::New);
    assert_eq!(scene.claim(1).await, Claim::InProgress);
    scene.age(LONGEST).await;
    assert_eq!(scene.claim(1).await, Claim::Unknown);
    assert_eq!(scene.claim(2).await, Claim::Reused);
    // Its broker was only slow.
    scene.store.answer_key(&[7; 32], b"late".to_vec()).await.unwrap();
    assert_eq!(scene.claim(1).await, Claim::Answered(b"late".to_vec()));
}

async fn a_key_is_forgotten_after_a_day(scene: Scene) {
    assert_eq!(scene.claim(1).await, Claim::New);
    scene.store.answer_key(&[7; 32], b"answer".to_vec()).await.unwrap();
    assert_eq!(scene.store.forget_keys().await.unwrap(), 0);
    scene.age(KEPT).await;
    assert_eq!(scene.claim(2).await, Claim::New, "whether or not it was looked for");
    scene.age(KEPT).await;
    assert_eq!(scene.store.forget_keys().await.unwrap(), 1);
    assert_eq!(scene.store.forget_keys().await.unwrap(), 0);
}
