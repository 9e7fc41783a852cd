//! ServerInit and what follows.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::server_init, 6144);
