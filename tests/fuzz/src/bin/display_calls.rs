//! QEMU's display calls.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::guest::display, 2048);
