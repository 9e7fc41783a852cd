//! A server's half of RFB's handshake.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::handshake::client, 512);
