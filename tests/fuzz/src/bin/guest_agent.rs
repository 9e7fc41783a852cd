//! qemu-guest-agent.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::guest::guest_agent, 1024);
