//! A client's messages. The most are texts of 1 MiB, as `clipboard` says, one of which is kept to be compared.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::server, 6144);
