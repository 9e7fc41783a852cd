//! Headers and tables of VMDK files.
#![no_main]

lucarne_fuzz::target!(lucarne_fuzz::images::vmdk, 10240);
