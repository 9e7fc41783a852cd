//! A client's messages. The most is a clipboard's text of 1 MiB, packed, unpacked and with other line ends.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::server, 8192);
