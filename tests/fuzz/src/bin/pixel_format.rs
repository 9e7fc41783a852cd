//! Pixel formats.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::pixel_format, 64);
