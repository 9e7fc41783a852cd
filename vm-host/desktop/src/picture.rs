//! The picture that the guest shows, shared between the driver, which changes it, and viewers, which look at it.
//!
//! The driver compares and copies damage under a short lock and never waits for a viewer: viewers encode from a
//! reference to the screen, outside the lock. Should the driver change the screen while one of them does, it goes on with
//! a copy of its own. Films are looked for here, where every frame is seen however few of them a viewer gets. It knows nothing
//! of encodings and sockets. Of several displays it makes one picture (`displays`).

use crate::displays::{Displays, Layout};
use crate::sources::{At, Black, Moved, Rows};
use lucarne_display::{
    Changes, CursorShape, FilmDetector, Rect, Region, Screen, ScreenError, Share, Source, ViewerDamage,
};
use lucarne_driver::{CursorImage, Damage, DisplaySink, Frame, Leds};
use lucarne_rfb::server;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The picture and those who look at it.
pub(crate) struct Picture {
    state: Mutex<State>,
    share: Arc<Share>,
    present: watch::Sender<bool>,
    /// From when times are reckoned.
    began: Instant,
}

struct State {
    screen: Arc<Screen>,
    displays: Displays,
    layout: Arc<Layout>,
    films: FilmDetector,
    cursor: Option<Arc<CursorShape>>,
    leds: Option<u8>,
    seats: Vec<SeatState>,
    next_seat: u64,
}

struct SeatState {
    id: u64,
    damage: ViewerDamage,
    arrival: Option<Arrival>,
    /// It shares what is encoded with others.
    shares: bool,
    wake: Arc<Notify>,
}

/// When the oldest damage came that a viewer has not been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The driver told of it.
    pub(crate) received: Instant,
    /// It was known what had changed.
    pub(crate) compared: Instant,
    /// How often the driver told of damage since.
    pub(crate) damages: u32,
}

/// A viewer's place before the picture: it collects what the viewer has not been sent. Leaving is dropping it.
pub(crate) struct Seat {
    picture: Arc<Picture>,
    id: u64,
}

/// What a viewer sees at one moment.
pub(crate) struct Look {
    /// The screen.
    pub(crate) screen: Arc<Screen>,
    /// The displays in it.
    pub(crate) layout: Arc<Layout>,
    /// What the viewer has not been sent.
    pub(crate) changes: Changes,
    /// When the oldest of it came; none for what an earlier update had no room for, or was only asked for.
    pub(crate) arrival: Option<Arrival>,
}

/// Whether there is something to look at.
#[derive(Clone)]
pub(crate) struct Pending {
    /// The viewer has not been sent everything.
    pub(crate) damaged: bool,
    /// The screen's width and height, pixels.
    pub(crate) size: (u16, u16),
    /// The displays in it.
    pub(crate) layout: Arc<Layout>,
    /// The pointer's shape, once the guest has set one.
    pub(crate) cursor: Option<Arc<CursorShape>>,
    /// The lock keys' lights as RFB has them, once they are known: bit 0 scroll, 1 num, 2 caps.
    pub(crate) leds: Option<u8>,
}

impl Picture {
    /// No picture yet.
    pub(crate) fn new() -> Arc<Self> {
        let screen = Arc::new(Screen::new(1, 1).expect("one pixel is a valid size"));
        let films = FilmDetector::new(screen.width(), screen.height());
        Arc::new(Self {
            state: Mutex::new(State {
                screen,
                displays: Displays::default(),
                layout: Arc::new(Layout::single(1, 1)),
                films,
                cursor: None,
                leds: None,
                seats: Vec::new(),
                next_seat: 0,
            }),
            share: Arc::default(),
            present: watch::Sender::new(false),
            began: Instant::now(),
        })
    }

    /// Waits until there is one.
    pub(crate) async fn first(&self) {
        // The sender lives as long as `self`.
        let _ = self.present.subscribe().wait_for(|present| *present).await;
    }

    /// The screen as it is now.
    pub(crate) fn screen(&self) -> Arc<Screen> {
        self.state().screen.clone()
    }

    /// All of the screen.
    pub(crate) fn rect(&self) -> Rect {
        self.state().screen.rect()
    }

    /// A viewer sits down; it has been sent nothing, and `wake` is told of every change.
    pub(crate) fn join(self: &Arc<Self>, wake: Arc<Notify>) -> Seat {
        self.sit_down(true, wake)
    }

    /// As [`Self::join`], for one that is encoded for otherwise than all others: for them it is as if it were not here.
    pub(crate) fn join_apart(self: &Arc<Self>, wake: Arc<Notify>) -> Seat {
        self.sit_down(false, wake)
    }

    fn sit_down(self: &Arc<Self>, shares: bool, wake: Arc<Notify>) -> Seat {
        let mut state = self.state();
        let id = state.next_seat;
        state.next_seat += 1;
        let damage = ViewerDamage::new(&state.screen);
        state.seats.push(SeatState { id, damage, arrival: None, shares, wake });
        Seat { picture: self.clone(), id }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the screen changes would leave stale pixels, which the next damage repairs.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A viewer has asked for these screens, the first for the first display.
    pub(crate) fn want(&self, screens: Vec<server::Screen>) {
        let now = Instant::now();
        let mut state = self.state();
        state.displays.want(screens);
        if let Err(error) = state.arrange(now, now - self.began) {
            tracing::warn!(%error, "the displays cannot lie as they were asked for");
        }
    }

    fn show(&self, frame: Frame<'_>, rect: Rect) {
        let received = Instant::now();
        if let Err(error) = self.state().show(frame, rect, received, received - self.began) {
            tracing::warn!(%error, "a frame of the hypervisor was refused");
            return;
        }
        self.present.send_if_modified(|present| !std::mem::replace(present, true));
    }
}

impl State {
    /// `rect` of a display's frame is to be looked at.
    fn show(
        &mut self,
        frame: Frame<'_>,
        rect: Rect,
        received: Instant,
        now: Duration,
    ) -> Result<(), ScreenError> {
        let rows = Rows::of(frame)?;
        if self.displays.show(&frame) {
            self.arrange(received, now)?;
        }
        let (width, height) = (frame.width, frame.height);
        let place = self.layout.place(frame.display).ok_or(ScreenError::Size { width, height })?;
        let area = Rect { x: place.x.saturating_add(rect.x), y: place.y.saturating_add(rect.y), ..rect };
        self.change(&At { x: place.x, y: place.y, rows: &rows }, area, received, now)
    }

    /// Puts the displays where they belong now, with what they have shown last.
    fn arrange(&mut self, received: Instant, now: Duration) -> Result<(), ScreenError> {
        let Some(layout) = self.displays.layout().filter(|layout| *layout != *self.layout) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut self.layout, Arc::new(layout));
        let layout = self.layout.clone();
        self.seats.iter().for_each(|seat| seat.wake.notify_one());
        if before.places == layout.places && before.size == layout.size {
            return Ok(());
        }
        let old = self.screen.clone();
        if before.size != layout.size {
            // The generation goes on, because what viewers share is told apart by it.
            Arc::make_mut(&mut self.screen).resize(layout.size.0, layout.size.1)?;
        }
        let rect = self.screen.rect();
        self.change(&Moved { old: &old, before: &before, layout: &layout }, rect, received, now)
    }

    fn change(
        &mut self,
        source: &dyn Source,
        rect: Rect,
        received: Instant,
        now: Duration,
    ) -> Result<(), ScreenError> {
        let change = Arc::make_mut(&mut self.screen).update_from(source, rect)?;
        self.films.note(&change, &self.screen, now);
        let arrival = Arrival { received, compared: Instant::now(), damages: 0 };
        for seat in &mut self.seats {
            seat.damage.apply(&change);
            if !change.is_empty() {
                seat.arrival.get_or_insert(arrival).damages += 1;
            }
            if !seat.damage.is_empty() {
                seat.wake.notify_one();
            }
        }
        Ok(())
    }

    fn seat(&mut self, id: u64) -> &mut SeatState {
        let found = self.seats.iter_mut().find(|s| s.id == id);
        found.expect("a seat is there until it is dropped")
    }
}

impl Seat {
    /// Whether there is something to send.
    pub(crate) fn pending(&self) -> Pending {
        let mut state = self.picture.state();
        let damaged = !state.seat(self.id).damage.is_empty();
        let size = (state.screen.width(), state.screen.height());
        let (layout, cursor) = (state.layout.clone(), state.cursor.clone());
        Pending { damaged, size, layout, cursor, leds: state.leds }
    }

    /// What the viewer shares with others, if there are any.
    pub(crate) fn share(&self) -> Option<Arc<Share>> {
        (self.picture.state().seats.iter().filter(|seat| seat.shares).count() > 1)
            .then(|| self.picture.share.clone())
    }

    /// What was taken and not sent: the viewer gets it later.
    pub(crate) fn put_back(&self, rest: Region) {
        self.picture.state().seat(self.id).damage.put_back(rest);
    }

    /// What there is to send. It counts as sent.
    pub(crate) fn take(&self) -> Look {
        let now = self.picture.now();
        let mut state = self.picture.state();
        let films = state.films.films(now);
        let seat = state.seat(self.id);
        let (changes, arrival) = (seat.damage.take().with_films(films), seat.arrival.take());
        Look { screen: state.screen.clone(), layout: state.layout.clone(), changes, arrival }
    }

    /// The screen and the films that run, if the viewer has been sent all of it. A picture newer than what waits must not reach
    /// a viewer: a copy that waits would then copy the wrong pixels.
    pub(crate) fn quiet_screen(&self) -> Option<(Arc<Screen>, Vec<Rect>)> {
        let now = self.picture.now();
        let mut state = self.picture.state();
        let films = state.films.films(now);
        state.seat(self.id).damage.is_empty().then(|| (state.screen.clone(), films))
    }

    /// The viewer wants this area whether or not it changed.
    pub(crate) fn refresh(&self, area: Rect) {
        self.picture.state().seat(self.id).damage.damage(area);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.picture.state().seats.retain(|s| s.id != self.id);
    }
}

impl DisplaySink for Picture {
    fn scanout(&self, frame: Frame<'_>) {
        self.show(frame, Rect::from_edges(0, 0, frame.width, frame.height));
    }

    fn update(&self, frame: Frame<'_>, damage: Damage) {
        let right = damage.x.saturating_add(damage.width);
        let bottom = damage.y.saturating_add(damage.height);
        self.show(frame, Rect::from_edges(damage.x, damage.y, right, bottom));
    }

    fn blank(&self, display: usize) {
        let now = Instant::now();
        let mut state = self.state();
        let changed = if state.displays.hide(display) {
            state.arrange(now, now - self.began)
        } else if let Some(place) = state.layout.place(display) {
            // There is always a picture.
            state.change(&Black, place, now, now - self.began)
        } else {
            return;
        };
        if let Err(error) = changed {
            tracing::warn!(%error, "a display could not be switched off");
        }
    }

    fn cursor(&self, cursor: Option<CursorImage>) {
        let shape = match cursor {
            None => CursorShape::hidden(),
            Some(c) => match CursorShape::from_bgra(c.width, c.height, c.hot_x, c.hot_y, &c.argb) {
                Ok(shape) => shape,
                Err(error) => {
                    tracing::warn!(%error, "a pointer's shape was refused");
                    return;
                }
            },
        };
        let mut state = self.state();
        // Some hypervisors tell the shape again with every move.
        if state.cursor.as_deref() != Some(&shape) {
            state.cursor = Some(Arc::new(shape));
            state.seats.iter().for_each(|seat| seat.wake.notify_one());
        }
    }

    fn leds(&self, leds: Leds) {
        let bits = u8::from(leds.scroll) | u8::from(leds.num) << 1 | u8::from(leds.caps) << 2;
        let mut state = self.state();
        if state.leds.replace(bits) != Some(bits) {
            state.seats.iter().for_each(|seat| seat.wake.notify_one());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Canvas;

    #[test]
    fn a_viewer_gets_what_changed_since_it_looked() {
        let picture = Picture::new();
        let mut canvas = Canvas::new(200, 100);
        picture.scanout(canvas.frame());
        let seat = picture.join(Arc::default());
        assert_eq!(seat.take().changes.region().rects(), [Rect::new(0, 0, 200, 100)]);
        assert!(!seat.pending().damaged && seat.quiet_screen().is_some());
        canvas.fill((70, 10, 5, 4), 0x00ff_0000);
        picture.update(canvas.frame(), Damage { x: 64, y: 0, width: 64, height: 64 });
        assert!(seat.pending().damaged && seat.quiet_screen().is_none());
        let look = seat.take();
        assert_eq!(look.changes.region().rects(), [Rect::new(70, 10, 5, 4)]);
        assert_eq!(look.screen.pixels(), canvas.pixels());
    }

    #[test]
    fn a_look_is_not_changed_by_what_the_guest_shows_afterwards() {
        let picture = Picture::new();
        let mut canvas = Canvas::new(64, 64);
        picture.scanout(canvas.frame());
        let seat = picture.join(Arc::default());
        let look = seat.take();
        canvas.fill((0, 0, 64, 64), 0x0000_ff00);
        picture.scanout(canvas.frame());
        assert!(look.screen.pixels().iter().all(|p| *p == 0));
        assert!(seat.take().screen.pixels().iter().all(|p| *p == 0x0000_ff00));
    }

    #[test]
    fn another_size_damages_everything_and_a_display_that_is_off_is_black() {
        let picture = Picture::new();
        let mut canvas = Canvas::new(64, 64);
        canvas.fill((0, 0, 64, 64), 0x0000_00ff);
        picture.scanout(canvas.frame());
        let seat = picture.join(Arc::default());
        drop(seat.take());
        picture.scanout(Canvas::new(32, 16).frame());
        assert_eq!(seat.pending().size, (32, 16));
        assert_eq!(seat.take().changes.region().rects(), [Rect::new(0, 0, 32, 16)]);
        picture.scanout(canvas.frame());
        drop(seat.take());
        picture.blank(0);
        assert!(seat.take().screen.pixels().iter().all(|p| *p == 0));
    }

    #[test]
    fn a_frame_with_too_few_bytes_leaves_the_picture_as_it_was() {
        let picture = Picture::new();
        let canvas = Canvas::new(64, 64);
        picture.scanout(canvas.frame());
        let few = vec![0; 100];
        let short = Frame { pixels: &few, ..canvas.frame() };
        picture.update(short, Damage { x: 0, y: 0, width: 64, height: 64 });
        assert_eq!(picture.rect(), Rect::new(0, 0, 64, 64));
    }

    #[test]
    fn a_shape_that_is_told_again_is_no_news() {
        let picture = Picture::new();
        picture.scanout(Canvas::new(64, 64).frame());
        let seat = picture.join(Arc::default());
        let image = CursorImage { width: 1, height: 1, hot_x: 0, hot_y: 0, argb: vec![1, 2, 3, 255] };
        picture.cursor(Some(image.clone()));
        let first = seat.pending().cursor.unwrap();
        picture.cursor(Some(image));
        assert!(Arc::ptr_eq(&first, &seat.pending().cursor.unwrap()));
        picture.cursor(None);
        assert_eq!(*seat.pending().cursor.unwrap(), CursorShape::hidden());
    }
}
