//! Messages between broker, agents and desktops.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::control::control, 1024);
