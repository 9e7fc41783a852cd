//! QEMU's device state.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::guest::device_state, 1024);
