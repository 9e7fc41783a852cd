//! Open H.264.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::h264, 1024);
