//! Headers and tables of qcow2 files.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::images::qcow2, 10240);
