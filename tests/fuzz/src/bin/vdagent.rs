//! The clipboard's agent in a guest. Up to 4 MiB wait for it.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::guest::vdagent, 16384);
