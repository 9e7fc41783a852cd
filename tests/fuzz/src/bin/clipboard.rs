//! The extended clipboard. The most is a text of 1 MiB, unpacked into room that doubles, and with other line ends.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::clipboard, 4096);
