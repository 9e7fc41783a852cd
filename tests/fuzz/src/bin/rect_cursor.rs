//! The pointer's shapes.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::cursor, 1024);
