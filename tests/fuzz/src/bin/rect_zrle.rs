//! ZRLE.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::zrle, 1024);
