//! Recordings. A screen has up to 64 million pixels, and is there twice.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::recordings::recording, 600 << 10);
