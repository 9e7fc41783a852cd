//! Headers and tables of VHDX files.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::images::vhdx, 10240);
