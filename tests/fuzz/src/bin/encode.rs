//! The display path's encoders, judged by the decoder.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::encode::exactly, 8192);
