//! Tight and Tight PNG, whose four streams are packed here.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::rects::tight, 8192);
