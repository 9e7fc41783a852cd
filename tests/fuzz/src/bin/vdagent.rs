//! The clipboard's agent in a guest.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::guest::vdagent, 1024);
