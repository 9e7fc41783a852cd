//! Hextile.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::hextile, 1024);
