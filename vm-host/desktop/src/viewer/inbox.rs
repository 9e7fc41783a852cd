//! What one viewer's reader leaves for its writer: orders to be carried out in turn, and the wish for an update.
//!
//! Orders keep the order of the client's messages, because a fence must come back between what was before and after it.
//! Requests merge: however many are made, one update answers them. Both are taken together, so an update never goes out
//! under settings older than its request. It knows nothing of pictures or sockets.

use lucarne_rfb::audio::AudioRequest;
use lucarne_rfb::clipboard::Clipboard;
use lucarne_rfb::server::write::ResizeStatus;
use lucarne_rfb::{PixelFormat, Rect};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Orders that wait at most. The writer takes all at once between two updates; a client that has sent more while one
/// update went out is not read from until it takes that.
const MAX_ORDERS: usize = 64;

/// Something for the writer to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// Pixels are in this format from now on.
    PixelFormat(PixelFormat),
    /// The client understands these.
    Encodings(Vec<i32>),
    /// Send it back.
    Fence { flags: u32, payload: Vec<u8> },
    /// A fence of ours has come back then.
    Answer { payload: Vec<u8>, at: Instant },
    /// Send updates of this area without requests, or stop doing so.
    ContinuousUpdates(Option<Rect>),
    /// Tell the user that something they did was refused, in the one way that RFB has.
    Bell,
    /// The answer to SetDesktopSize.
    Resize(ResizeStatus),
    /// A message of the extended clipboard, without text.
    Clipboard(Clipboard),
    /// What the client wants to hear.
    Audio(AudioRequest),
}

/// What the writer takes.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// In order.
    pub(super) orders: Vec<Order>,
    /// The area that an update is wanted of.
    pub(super) requested: Option<Rect>,
    /// The area that is wanted whether or not it changed.
    pub(super) refresh: Option<Rect>,
}

#[derive(Debug)]
pub(super) struct Inbox {
    taken: Mutex<Taken>,
    /// Wakes the writer.
    wake: Arc<Notify>,
    /// Wakes the reader.
    room: Notify,
}

impl Inbox {
    /// An empty one; `wake` is told of everything that is put in.
    pub(super) fn new(wake: Arc<Notify>) -> Self {
        Self { taken: Mutex::default(), wake, room: Notify::new() }
    }

    /// Puts several orders in at once, so that the writer sees all or none of them.
    pub(super) async fn put(&self, orders: impl IntoIterator<Item = Order>) {
        loop {
            {
                let mut taken = self.lock();
                if taken.orders.len() < MAX_ORDERS {
                    taken.orders.extend(orders);
                    break;
                }
            }
            self.room.notified().await;
        }
        self.wake.notify_one();
    }

    /// Asks for an update of `area`.
    pub(super) fn request(&self, area: Rect, incremental: bool) {
        let join = |all: &mut Option<Rect>| *all = Some(all.unwrap_or_default().bounding(&area));
        let mut taken = self.lock();
        join(&mut taken.requested);
        if !incremental {
            join(&mut taken.refresh);
        }
        drop(taken);
        self.wake.notify_one();
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Taken {
        let taken = std::mem::take(&mut *self.lock());
        if !taken.orders.is_empty() {
            self.room.notify_one();
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Every change is whole at every point where a panic is possible.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_merge_and_are_taken_once() {
        let inbox = Inbox::new(Arc::default());
        inbox.request(Rect::new(0, 0, 10, 10), true);
        inbox.request(Rect::new(20, 20, 10, 10), false);
        let taken = inbox.take();
        assert_eq!(taken.requested, Some(Rect::new(0, 0, 30, 30)));
        assert_eq!(taken.refresh, Some(Rect::new(20, 20, 10, 10)));
        assert_eq!(inbox.take().requested, None);
    }

    #[tokio::test]
    async fn a_client_that_orders_without_end_waits_for_the_writer() {
        let inbox = Arc::new(Inbox::new(Arc::default()));
        for _ in 0..MAX_ORDERS {
            inbox.put([Order::ContinuousUpdates(None)]).await;
        }
        let one_more = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.put([Order::Fence { flags: 0, payload: vec![] }]).await }
        });
        tokio::task::yield_now().await;
        assert!(!one_more.is_finished());
        assert_eq!(inbox.take().orders.len(), MAX_ORDERS);
        one_more.await.unwrap();
        assert_eq!(inbox.take().orders, [Order::Fence { flags: 0, payload: vec![] }]);
    }
}
