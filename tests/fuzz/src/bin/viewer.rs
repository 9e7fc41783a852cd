//! A server's messages.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::viewer, 6144);
