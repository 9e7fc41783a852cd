//! QEMU's state of a guest that is suspended.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::guest::guest_state, 16384);
