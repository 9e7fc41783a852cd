//! Raw and CopyRect.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::raw, 1024);
