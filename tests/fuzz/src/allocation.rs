//! An allocator that knows how much memory its thread holds, and ends the program where a limit is passed: there, so that
//! the stack shows who asked.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

/// The system's allocator, counting.
pub struct Counting;

thread_local! {
    /// Bytes that were allocated and not given back. Negative where they were another thread's.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Runs a function that may hold at most `bytes` more than is held now; if it wants more, the program ends.
pub fn limited<T>(bytes: usize, function: impl FnOnce() -> T) -> T {
    LIMIT.set(HELD.get().saturating_add_unsigned(bytes));
    let result = function();
    LIMIT.set(isize::MAX);
    result
}

/// No allocation is larger (`std::alloc::Layout`).
fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

fn grow(bytes: usize) {
    let held = HELD.get().saturating_add(size(bytes));
    HELD.set(held);
    // A panic is a finding already, and its message may take what it needs.
    if held > LIMIT.get() && !std::thread::panicking() {
        // What follows allocates.
        LIMIT.set(isize::MAX);
        let stack = std::backtrace::Backtrace::force_capture();
        // Past what tests do with `eprintln!`, which would be lost.
        let what = format!("{bytes} bytes are asked for, which is more than may be held");
        let _ = writeln!(std::io::stderr(), "{what}:\n{stack}");
        std::process::abort();
    }
}

// SAFETY: everything is done by the system's allocator; counting allocates nothing before the program is about to end, and
// touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - size(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, to: usize) -> *mut u8 {
        HELD.set(HELD.get() - size(layout.size()));
        grow(to);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, to) }
    }
}
