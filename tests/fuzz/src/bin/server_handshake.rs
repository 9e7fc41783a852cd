//! A client's half of RFB's handshake, and its first messages.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::handshake::server, 512);
