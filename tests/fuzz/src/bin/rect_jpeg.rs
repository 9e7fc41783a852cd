//! JPEG.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::jpeg, 1024);
