//! Tight and Tight PNG.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::tight, 1024);
