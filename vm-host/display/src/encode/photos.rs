//! Photographs of one update as JPEGs, by as many threads as the machine has: each stands for itself, so they may be made in
//! any order, and beside what has to be made in one.

use super::jpeg::{Jpeg, JpegSettings};
use crate::screen::Screen;
use lucarne_rfb::Rect;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewer pixels than this together are made by one thread: starting others takes as long as some 20,000 pixels.
const SPREAD: u64 = 128 * 1024;

/// More threads than this would find too little to do: a screen of 4K is a hundred pieces.
const MAX_THREADS: usize = 8;

/// One thread's compressor and memory.
#[derive(Debug, Default)]
struct Worker {
    jpeg: Jpeg,
    plain: Vec<u8>,
}

/// The compressors of one viewer.
#[derive(Debug, Default)]
pub(super) struct Photos {
    workers: Vec<Worker>,
}

impl Photos {
    /// Compresses these parts of the screen, and does something else meanwhile. In the order of the rectangles; `None` for
    /// those that libjpeg-turbo fails on.
    pub(super) fn compress<R>(
        &mut self,
        screen: &Screen,
        settings: JpegSettings,
        rects: &[Rect],
        meanwhile: impl FnOnce() -> R,
    ) -> (Vec<Option<Vec<u8>>>, R) {
        let threads = threads(rects);
        self.workers.resize_with(self.workers.len().max(threads), Worker::default);
        let next = AtomicUsize::new(0);
        let done: Vec<OnceLock<Option<Vec<u8>>>> = rects.iter().map(|_| OnceLock::new()).collect();
        let work = |worker: &mut Worker| {
            while let Some((rect, done)) = pair(rects, &done, next.fetch_add(1, Ordering::Relaxed)) {
                done.get_or_init(|| worker.compress(screen, settings, *rect));
            }
        };
        let (own, others) = match self.workers.split_first_mut() {
            Some((own, others)) if !rects.is_empty() => (Some(own), others),
            _ => (None, &mut [][..]),
        };
        let result = std::thread::scope(|scope| {
            for worker in others.iter_mut().take(threads.saturating_sub(1)) {
                // Without another thread this one does it all.
                let _ =
                    std::thread::Builder::new().name("photos".into()).spawn_scoped(scope, || work(worker));
            }
            let result = meanwhile();
            own.into_iter().for_each(work);
            result
        });
        (done.into_iter().map(|picture| picture.into_inner().flatten()).collect(), result)
    }
}

fn pair<'a, A, B>(a: &'a [A], b: &'a [B], at: usize) -> Option<(&'a A, &'a B)> {
    a.get(at).zip(b.get(at))
}

/// How many threads are worth their while.
fn threads(rects: &[Rect]) -> usize {
    if rects.iter().map(Rect::area).sum::<u64>() < SPREAD {
        return 1;
    }
    static MACHINE: OnceLock<usize> = OnceLock::new();
    let machine = *MACHINE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
    machine.min(MAX_THREADS).min(rects.len()).max(1)
}

impl Worker {
    fn compress(&mut self, screen: &Screen, settings: JpegSettings, rect: Rect) -> Option<Vec<u8>> {
        self.plain.clear();
        for y in rect.y..rect.y + rect.h {
            self.plain.extend(screen.row(rect, y).iter().flat_map(|p| p.to_le_bytes()));
        }
        self.jpeg.compress(&self.plain, (rect.w.into(), rect.h.into()), settings).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_rfb::encodings::Subsampling;

    #[test]
    fn many_photographs_are_what_each_alone_is() {
        let mut screen = Screen::new(1024, 512).unwrap();
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes();
        let bytes: Vec<u8> = (0..1024 * 512).flat_map(noise).collect();
        let all = screen.rect();
        screen.update(&bytes, 1024 * 4, all).unwrap();
        let settings = JpegSettings { quality: 80, subsampling: Subsampling::Quarter };
        let rects: Vec<Rect> = (0..16).map(|i| Rect::new(i % 4 * 256, i / 4 * 128, 256, 128)).collect();
        let mut photos = Photos::default();
        let (together, said) = photos.compress(&screen, settings, &rects, || "meanwhile");
        assert_eq!((together.len(), said), (16, "meanwhile"));
        for (rect, picture) in rects.iter().zip(together) {
            let (alone, ()) = Photos::default().compress(&screen, settings, &[*rect], || ());
            assert!(picture.is_some() && alone == [picture], "{rect:?}");
        }
        assert!(photos.compress(&screen, settings, &[], || ()).0.is_empty());
    }
}
