//! The extended clipboard.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::messages::clipboard, 8192);
