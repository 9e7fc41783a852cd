//! zlib.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::zlib, 1024);
