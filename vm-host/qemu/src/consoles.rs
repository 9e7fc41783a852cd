//! What the consoles of one QEMU have in common, one for each output of its display device: a pointer, which is on one of them
//! at a time, and the question which of them are on.

use lucarne_driver::{CursorImage, DisplaySink, MAX_DISPLAYS};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the listeners of all consoles.
#[derive(Debug, Default)]
pub(crate) struct Consoles(Mutex<[Console; MAX_DISPLAYS]>);

#[derive(Debug, Default)]
struct Console {
    /// The guest shows something on it.
    on: bool,
    shape: Option<CursorImage>,
    /// The pointer is on it.
    pointed: bool,
}

impl Consoles {
    fn with<T>(&self, act: impl FnOnce(&mut [Console; MAX_DISPLAYS]) -> T) -> T {
        // Every change is whole at every point where a panic is possible.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The guest shows something on this console, or no more.
    pub(crate) fn set_on(&self, number: usize, on: bool) {
        self.with(|all| {
            if let Some(console) = all.get_mut(number) {
                console.on = on;
            }
        });
    }

    /// Whether the guest shows something on another console.
    pub(crate) fn others_on(&self, number: usize) -> bool {
        self.with(|all| all.iter().enumerate().any(|(n, console)| n != number && console.on))
    }

    /// The pointer on this console has this shape, or the one that it had.
    pub(crate) fn point(&self, number: usize, shape: Option<CursorImage>, sink: &Arc<dyn DisplaySink>) {
        self.with(|all| {
            let Some(console) = all.get_mut(number) else { return };
            console.pointed = true;
            if shape.is_some() {
                console.shape = shape;
            }
            // Under the lock, so that the sink hears of several consoles in their order.
            sink.cursor(console.shape.clone());
        });
    }

    /// There is no pointer on this console: there is one if it is on another.
    pub(crate) fn leave(&self, number: usize, sink: &Arc<dyn DisplaySink>) {
        self.with(|all| {
            if let Some(console) = all.get_mut(number) {
                console.pointed = false;
            }
            let elsewhere = all.iter().find(|console| console.pointed);
            sink.cursor(elsewhere.and_then(|console| console.shape.clone()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_driver::{Damage, Frame};

    #[derive(Default)]
    struct Shapes(Mutex<Vec<Option<u32>>>);

    impl DisplaySink for Shapes {
        fn scanout(&self, _: Frame<'_>) {}
        fn update(&self, _: Frame<'_>, _: Damage) {}
        fn blank(&self, _: usize) {}
        fn cursor(&self, cursor: Option<CursorImage>) {
            self.0.lock().unwrap().push(cursor.map(|c| c.width));
        }
    }

    fn shape(width: u32) -> Option<CursorImage> {
        Some(CursorImage { width, height: 1, hot_x: 0, hot_y: 0, argb: vec![0; width as usize * 4] })
    }

    #[test]
    fn the_pointer_has_the_shape_of_the_console_that_it_is_on() {
        let (consoles, shapes) = (Consoles::default(), Arc::new(Shapes::default()));
        let sink: Arc<dyn DisplaySink> = shapes.clone();
        consoles.point(0, shape(1), &sink);
        consoles.point(1, shape(2), &sink);
        consoles.leave(0, &sink);
        consoles.leave(1, &sink);
        consoles.point(0, None, &sink);
        assert_eq!(*shapes.0.lock().unwrap(), [Some(1), Some(2), Some(2), None, Some(1)]);
    }

    #[test]
    fn a_console_is_beside_others_only_while_they_are_on() {
        let consoles = Consoles::default();
        consoles.set_on(0, true);
        assert!(!consoles.others_on(0) && consoles.others_on(1));
        consoles.set_on(0, false);
        assert!(!consoles.others_on(1));
    }
}
