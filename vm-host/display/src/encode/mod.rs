//! Encoders: what changed on the screen becomes FramebufferUpdate messages for one viewer.
//!
//! ```text
//! Changes ──► copies ──► region ──► plan (Tight: solid, indexed, full, photo) ──► rectangles
//!                          │  └───► ZRLE, Hextile, zlib or Raw, by what the viewer prefers
//!                          └──────► films, as video or in whole pictures
//! ```
//!
//! An [`Encoder`] holds what the protocol makes it hold per viewer: pixel format, zlib streams, the size that the viewer
//! believes in, streams of video, and what it was sent only approximately (JPEG, video), for a repair when things are quiet.
//! It knows nothing of when to send.

mod film;
mod gather;
mod hextile;
pub(crate) mod jpeg;
mod pace;
pub(crate) mod palette;
mod photos;
pub(crate) mod plan;
mod share;
mod tight;
mod zlib;
mod zrle;

use crate::cursor::CursorShape;
use crate::region::{Region, TILE};
use crate::screen::{Copy, Screen};
use crate::viewer::Changes;
use film::Frame;
use jpeg::JpegSettings;
use lucarne_rfb::encodings::{self as enc, PixelEncoding};
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;
use lucarne_rfb::server::write::{ResizeReason, ResizeStatus};
use lucarne_rfb::{ClientEncodings, PixelFormat, Rect, server};
pub use share::Share;
use share::Wanted;
use std::sync::Arc;

/// Why an update could not be made. The viewer's streams may be broken: close its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// zlib refused its own stream.
    #[error("zlib failed on the viewer's stream; the viewer has to connect again")]
    Zlib,
}

/// An ExtendedDesktopSize rectangle to send, beside those that a changed size brings by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Who asked.
    pub reason: ResizeReason,
    /// How it ended.
    pub status: ResizeStatus,
}

/// What to tell a viewer besides pixels. What it does not understand is left out.
#[derive(Clone, Debug, Default)]
pub struct Extras<'a> {
    /// The size was asked for (SetDesktopSize), or the layout of `screens` is another.
    pub resize: Option<Resize>,
    /// The layout of the screens within the framebuffer, for where it is told; empty means one that is all of it.
    pub screens: &'a [server::Screen],
    /// A new shape of the pointer.
    pub cursor: Option<&'a CursorShape>,
    /// A new name of the desktop.
    pub name: Option<&'a str>,
    /// The lock keys' state: bit 0 scroll, 1 num, 2 caps.
    pub leds: Option<u8>,
    /// The pointer is to send positions (`true`) or deltas.
    pub absolute_pointer: Option<bool>,
    /// Say which of QEMU Extended Key Event and ExtendedMouseButtons are understood; once, after SetEncodings.
    pub acknowledge_input: bool,
    /// Say which of QEMU Audio and Opus audio are to be had; once, after SetEncodings.
    pub acknowledge_audio: bool,
}

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Rectangles that were written; with 0 nothing was appended.
    pub rects: usize,
    /// What the budget had no room for; empty with [`UNLIMITED`].
    pub rest: Region,
    /// Of pixels there were frames of films and nothing else.
    pub only_films: bool,
}

/// A budget that nothing exceeds.
pub const UNLIMITED: usize = usize::MAX;

/// One viewer's encoder.
#[derive(Debug)]
pub struct Encoder {
    encodings: ClientEncodings,
    writer: PixelWriter,
    /// What the viewer believes the framebuffer's size to be.
    size: (u16, u16),
    lossy: Region,
    /// What other viewers of the screen share with this one.
    share: Option<Arc<Share>>,
    /// Bytes a second that its link carries, where that is known.
    rate: Option<f64>,
    tight: tight::Tight,
    zrle: zrle::Zrle,
    hextile: hextile::Hextile,
    zlib: zlib::Zlib,
    films: film::Films,
    /// How the pictures of an update were sent that left a rest.
    begun: Option<JpegSettings>,
    /// The last update had a frame of a film, and no room for something else that waits.
    films_later: bool,
}

impl Encoder {
    /// An encoder for a viewer that was told `width` × `height` by ServerInit.
    #[must_use]
    pub fn new(format: PixelFormat, encodings: ClientEncodings, width: u16, height: u16) -> Self {
        Self {
            encodings,
            writer: PixelWriter::new(format),
            size: (width, height),
            lossy: Region::new(width, height),
            share: None,
            rate: None,
            tight: tight::Tight::new(),
            zrle: zrle::Zrle::default(),
            hextile: hextile::Hextile::default(),
            zlib: zlib::Zlib::default(),
            films: film::Films::default(),
            begun: None,
            films_later: false,
        }
    }

    /// The viewer sent SetPixelFormat.
    pub fn set_pixel_format(&mut self, format: PixelFormat) {
        self.writer = PixelWriter::new(format);
        if !self.may_show_films() {
            self.films.restart();
        }
    }

    /// The viewer sent SetEncodings.
    pub fn set_encodings(&mut self, encodings: ClientEncodings) {
        self.encodings = encodings;
        if !self.may_show_films() {
            self.films = film::Films::default();
        }
    }

    /// Whether there are other viewers of the same screen, and what they share: where this one wants the same as another,
    /// it is encoded once.
    pub fn set_share(&mut self, share: Option<Arc<Share>>) {
        self.share = share;
    }

    /// Bytes a second that the viewer's link carries, where that is known: pictures and films that would take long over it
    /// are sent coarser, never better than the viewer asked for.
    pub fn set_rate(&mut self, rate: Option<f64>) {
        self.rate = rate;
    }

    /// What the viewer understands.
    #[must_use]
    pub fn encodings(&self) -> &ClientEncodings {
        &self.encodings
    }

    /// What the viewer has only approximately. When the link and the screen are quiet, call [`Self::repair`].
    #[must_use]
    pub fn lossy_region(&self) -> &Region {
        &self.lossy
    }

    /// Appends FramebufferUpdate messages with `extras` and `changes` to `out`, until they have about `budget` bytes: at
    /// least one piece of the changes, and no further one once that many are exceeded.
    ///
    /// A changed size of the screen is told first, in a message of its own. A viewer that cannot change its size gets
    /// what fits into the old one.
    ///
    /// # Errors
    /// zlib failed.
    pub fn encode_update(
        &mut self,
        screen: &Screen,
        changes: Changes,
        extras: &Extras<'_>,
        budget: usize,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, EncodeError> {
        let resized = self.write_size(screen, extras, out);
        let end = out.len().saturating_add(budget);
        self.run_films(screen, changes.films());
        let (copies, lists) =
            if self.may_copy(screen) { changes } else { changes.without_copies() }.into_parts();
        let [mut rects, mut backlog, mut behind] = if lists[0].bounds() == screen.rect() {
            let runs = self.encodings.supports(enc::ZRLE);
            let [region, backlog, behind] = lists.map(|list| list.rects());
            [gather::gather(screen, region, runs), backlog, behind]
        } else {
            [vec![screen.rect()], Vec::new(), Vec::new()]
        };
        let mut update = Update::new(out);
        self.write_extras(extras, &mut update);
        for copy in &copies {
            update.copy_rect(copy.dst(), copy.src.x, copy.src.y);
            self.copy_lossy(copy);
        }
        let due = self.films.take([&mut rects, &mut backlog, &mut behind]);
        let asked = JpegSettings::of(&self.encodings);
        let film = asked.map(|asked| pace::film_picture(asked, due.pixels(), self.rate, self.films.weight()));
        let area: u64 = rects.iter().chain(&backlog).chain(&behind).map(Rect::area).sum();
        let jpeg = asked.map(|asked| pace::picture(asked, area, self.rate));
        // What is left of a picture would seem small, and each part of it finer and larger than the last.
        let jpeg = match self.begun.take().filter(|_| !backlog.is_empty()) {
            Some(begun) => jpeg.map(|jpeg| if begun.quality < jpeg.quality { begun } else { jpeg }),
            None => jpeg,
        };
        // Text and drawings take less than a picture.
        let each = jpeg.map_or(1.0, |jpeg| pace::usual_bytes(jpeg.quality, 1));
        let pixels = (budget as f64 / each) as u64;
        let pixels = if area as f64 <= pixels as f64 * WHOLE { area } else { pixels };
        let parts =
            |rects: Vec<Rect>| rects.into_iter().flat_map(|rect| pieces(rect, pixels, TILE)).map(Piece::Part);
        let frames = |frames: Vec<Frame>| frames.into_iter().map(Piece::Frame);
        // A film's frame is larger than most of what is new beside it, so it goes behind that, but not always; with what waits
        // already it takes turns.
        let first = frames(due.late).chain(parts(rects));
        let mut later: [Vec<Piece>; 2] =
            [frames(due.now).collect(), parts(backlog).chain(parts(behind)).collect()];
        if self.films_later {
            later.reverse();
        }
        let mut rest = Region::new(screen.width(), screen.height());
        let (mut films, mut others, mut left) = (0, copies.len(), false);
        for (number, piece) in first.chain(later.into_iter().flatten()).enumerate() {
            let is_full = number > 0 && update.bytes() > end;
            match piece {
                Piece::Part(part) if is_full => {
                    left = true;
                    rest.add(part);
                }
                Piece::Part(part) => {
                    others += 1;
                    self.write_region(screen, &[part], jpeg, &mut update)?;
                }
                Piece::Frame(Frame { film, parts }) if is_full => {
                    self.films.delay(film);
                    let parts = if parts.is_empty() { vec![film] } else { parts };
                    parts.into_iter().for_each(|part| rest.add(part));
                }
                Piece::Frame(frame) => {
                    films += 1;
                    self.write_frame(screen, frame, film, &mut update)?;
                }
            }
        }
        self.films_later = films > 0 && left;
        self.begun = jpeg.filter(|_| left);
        self.films.release(Rect::new(0, 0, self.size.0, self.size.1), &mut update);
        Ok(Encoded { rects: resized + update.finish(), rest, only_films: films > 0 && others == 0 })
    }

    /// Writes a film's frame, as video or else as pictures.
    fn write_frame(
        &mut self,
        screen: &Screen,
        Frame { film, mut parts }: Frame,
        jpeg: Option<JpegSettings>,
        update: &mut Update<'_>,
    ) -> Result<(), EncodeError> {
        if self.films.write(screen, film, update) {
            self.lossy.add(film);
            return Ok(());
        }
        if parts.is_empty() {
            // It was to be video, and that has just failed.
            parts.push(film);
        }
        let before = update.bytes();
        self.write_region(screen, &parts, jpeg, update)?;
        if let Some(jpeg) = jpeg {
            let pixels = parts.iter().map(Rect::area).sum();
            self.films.weigh(update.bytes() - before, pace::usual_bytes(jpeg.quality, pixels));
        }
        Ok(())
    }

    /// Sends up to about `max_pixels` pixels (at least one tile) of what was lossy again, without loss, and gives
    /// the number of rectangles; 0 when there was nothing to do for now. `films` run still, and are left as they are.
    ///
    /// # Errors
    /// zlib failed.
    pub fn repair(
        &mut self,
        screen: &Screen,
        films: &[Rect],
        max_pixels: u64,
        out: &mut Vec<u8>,
    ) -> Result<usize, EncodeError> {
        if self.lossy.bounds() != screen.rect() {
            return Ok(0);
        }
        self.run_films(screen, films);
        let mut lossy = self.lossy.rects();
        for film in self.films.rects() {
            lossy = lossy.iter().flat_map(|rect| rect.without(&film)).collect();
        }
        let (mut chosen, mut left) = (Vec::new(), max_pixels.max(1));
        for rect in lossy {
            for part in pieces(rect, max_pixels, MIN_LOSSLESS) {
                if left > 0 {
                    left = left.saturating_sub(part.area());
                    chosen.push(part);
                }
            }
        }
        let mut update = Update::new(out);
        self.write_region(screen, &chosen, None, &mut update)?;
        self.films.release(Rect::new(0, 0, self.size.0, self.size.1), &mut update);
        Ok(update.finish())
    }

    /// Video may be used: the viewer knows it, takes pictures with loss, and has pixels into which decoders write.
    fn may_show_films(&self) -> bool {
        self.encodings.supports(enc::OPEN_H264)
            && self.encodings.quality().is_some()
            && self.writer.format().bits_per_pixel == 32
    }

    /// Takes notice of the films that run, as far as this viewer gets them with loss: as video, or else as pictures.
    fn run_films(&mut self, screen: &Screen, films: &[Rect]) {
        let video = self.may_show_films();
        let pictures = self.encodings.quality().is_some()
            && self.encodings.preferred() == PixelEncoding::Tight
            && self.writer.format().bits_per_pixel >= 16;
        let is_whole = self.size == (screen.width(), screen.height());
        let shown: &[Rect] = if (video || pictures) && is_whole { films } else { &[] };
        let codable = |film: &Rect| {
            screen.rect().contains(film) && !film.is_empty() && (film.w | film.h).is_multiple_of(2)
        };
        let films: Vec<Rect> = shown.iter().copied().filter(codable).collect();
        let area = films.iter().map(Rect::area).sum();
        let asked = JpegSettings::of(&self.encodings).map_or(1, |jpeg| jpeg.quality);
        let quantiser = video.then(|| film::quantiser(pace::film(asked, area, self.rate)));
        self.films.run(&films, quantiser);
    }

    /// CopyRect may be used: the viewer knows it, and sees the whole screen.
    fn may_copy(&self, screen: &Screen) -> bool {
        self.encodings.supports(enc::COPY_RECT) && self.size == (screen.width(), screen.height())
    }

    fn copy_lossy(&mut self, copy: &Copy) {
        let moved: Vec<Rect> = self.lossy.parts_in(copy.src).map(|part| copy.moved(part)).collect();
        self.lossy.subtract(copy.dst());
        moved.into_iter().for_each(|r| self.lossy.add(r));
    }

    /// Tells the size where it changed or was asked for, and gives the number of rectangles.
    fn write_size(&mut self, screen: &Screen, extras: &Extras<'_>, out: &mut Vec<u8>) -> usize {
        let (width, height) = (screen.width(), screen.height());
        let changed = self.size != (width, height);
        let mut update = Update::new(out);
        if self.encodings.supports(enc::EXTENDED_DESKTOP_SIZE) {
            let whole = [server::Screen { id: 0, rect: screen.rect(), flags: 0 }];
            let screens = if extras.screens.is_empty() { &whole[..] } else { extras.screens };
            let of_server = Resize { reason: ResizeReason::Server, status: ResizeStatus::Ok };
            if let Some(resize) = extras.resize.or(changed.then_some(of_server)) {
                update.extended_desktop_size(resize.reason, resize.status, width, height, screens);
                // The answer "no" leaves a viewer's size alone, so a change is told beside it.
                if changed && resize.status != ResizeStatus::Ok {
                    let Resize { reason, status } = of_server;
                    update.extended_desktop_size(reason, status, width, height, screens);
                }
                self.size = (width, height);
            }
        } else if changed && self.encodings.supports(enc::DESKTOP_SIZE) {
            update.desktop_size(width, height);
            self.size = (width, height);
        }
        if self.lossy.bounds() != screen.rect() {
            self.lossy = Region::new(width, height);
            self.films.restart();
        }
        update.finish()
    }

    fn write_extras(&self, extras: &Extras<'_>, update: &mut Update<'_>) {
        let supports = |encoding| self.encodings.supports(encoding);
        let input =
            [enc::QEMU_EXTENDED_KEY, enc::EXTENDED_MOUSE_BUTTONS].map(|e| (extras.acknowledge_input, e));
        let audio = [enc::QEMU_AUDIO, enc::OPUS_AUDIO].map(|e| (extras.acknowledge_audio, e));
        for (acknowledge, encoding) in input.into_iter().chain(audio) {
            if acknowledge && supports(encoding) {
                update.acknowledge(encoding);
            }
        }
        if let Some(absolute) = extras.absolute_pointer.filter(|_| supports(enc::QEMU_POINTER_MOTION)) {
            update.pointer_motion(absolute);
        }
        if let Some(leds) = extras.leds.filter(|_| supports(enc::QEMU_LED_STATE)) {
            update.led_state(leds);
        }
        if let Some(name) = extras.name.filter(|_| supports(enc::DESKTOP_NAME)) {
            update.desktop_name(name);
        }
        if let Some(cursor) = extras.cursor {
            if supports(enc::CURSOR_WITH_ALPHA) {
                cursor.write_alpha(update);
            } else if supports(enc::VMWARE_CURSOR) {
                cursor.write_vmware(update);
            } else if supports(enc::CURSOR) {
                cursor.write_mask(update, &self.writer);
            }
        }
    }

    fn write_region(
        &mut self,
        screen: &Screen,
        rects: &[Rect],
        jpeg: Option<JpegSettings>,
        update: &mut Update<'_>,
    ) -> Result<(), EncodeError> {
        let visible = Rect::new(0, 0, self.size.0, self.size.1);
        for rect in rects.iter().filter_map(|r| r.intersection(&visible)?.intersection(&screen.rect())) {
            self.lossy.subtract(rect);
            let jpeg = jpeg.filter(|_| self.writer.format().bits_per_pixel >= 16);
            let (level, zrle_level) = zlib_levels(&self.encodings);
            match (self.encodings.preferred(), &self.share) {
                (PixelEncoding::Tight, Some(share)) => {
                    let generation = screen.generation();
                    let wanted = Wanted { generation, rect, format: *self.writer.format(), level, jpeg };
                    let slot = share.rect(screen, wanted)?;
                    let Some(Some(done)) = slot.get() else { return Err(EncodeError::Zlib) };
                    update.ready(&done.bytes, done.rects);
                    done.lossy.iter().for_each(|rect| self.lossy.add(*rect));
                    self.tight.forget();
                }
                (PixelEncoding::Tight, None) => {
                    let job = tight::Job { screen, writer: &self.writer, level, jpeg };
                    let zrle = self.encodings.supports(enc::ZRLE).then_some((&mut self.zrle, zrle_level));
                    self.tight.write(&job, rect, update, &mut self.lossy, zrle)?;
                }
                (PixelEncoding::Zrle, _) => {
                    self.zrle.write(screen, &self.writer, zrle_level, rect, update)?;
                }
                (PixelEncoding::Hextile, _) => self.hextile.write(screen, &self.writer, rect, update),
                (PixelEncoding::Zlib, _) => {
                    self.zlib.write(screen, &self.writer, level, rect, update)?;
                }
                (PixelEncoding::Raw, _) => {
                    let out = update.rect(rect, enc::RAW);
                    for y in rect.y..rect.y + rect.h {
                        self.writer.put_pixels(screen.row(rect, y), out);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What goes into an update as a whole.
enum Piece {
    /// Pixels of the page.
    Part(Rect),
    Frame(Frame),
}

/// What takes no more than so many budgets is sent whole, though later updates wait that long: in parts it would take longer,
/// because each has tables and ends of streams of its own, and it would be seen to be built up.
const WHOLE: f64 = 2.5;

/// The least height of a piece that is sent without loss. Those with loss have tables for each JPEG, and are rows of tiles.
const MIN_LOSSLESS: u16 = 16;

/// A rectangle in pieces of about so many pixels, that a budget may come between: rows of tiles, or of parts of one that are at
/// least so high.
fn pieces(rect: Rect, pixels: u64, least: u16) -> impl Iterator<Item = Rect> {
    let tile = u64::from(TILE);
    let (w, h) = if rect.area() > pixels {
        // No wider than the rectangle, so it fits.
        let width = (pixels / tile / tile * tile).clamp(tile, tile.max(rect.w.into()));
        let height = (pixels / width).clamp(least.into(), rect.h.max(least).into());
        let height = if height > tile { height / tile * tile } else { height };
        (width as u16, height as u16)
    } else {
        (rect.w.max(1), rect.h.max(1))
    };
    let columns = move || (0..rect.w).step_by(w.into());
    (0..rect.h).step_by(h.into()).flat_map(move |y| {
        columns().map(move |x| Rect {
            x: rect.x + x,
            y: rect.y + y,
            w: w.min(rect.w - x),
            h: h.min(rect.h - y),
        })
    })
}

/// zlib's levels for a client's compression level: of Tight, then of ZRLE. Above 2 the processor's time grows fast and the
/// bytes shrink little for pixels as they are; ZRLE's tiles are a fraction of those, and worth more.
fn zlib_levels(encodings: &ClientEncodings) -> (u32, u32) {
    match encodings.compression() {
        Some(0..=1) => (1, 2),
        None | Some(2..=5) => (2, 4),
        Some(6..=7) => (4, 6),
        Some(_) => (6, 9),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
