//! Files that administrators bring: disks in foreign formats, and recipes.

use crate::guest::memory;
use crate::input::Input;
use lucarne_images::import::{ImportFormat, examine};
use lucarne_images::recipe::Recipe;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The longest disk file, bytes: tables may be anywhere in it, and are read whole.
pub const LONGEST: u32 = 8 << 20;

/// qcow2.
pub fn qcow2(data: &[u8]) {
    disk(ImportFormat::Qcow2, data);
}

/// VMDK.
pub fn vmdk(data: &[u8]) {
    disk(ImportFormat::Vmdk, data);
}

/// VHDX.
pub fn vhdx(data: &[u8]) {
    disk(ImportFormat::Vhdx, data);
}

/// A disk file of zeros with some other bytes: its length in four bytes, then where, how many in two, and which.
fn disk(format: ImportFormat, data: &[u8]) {
    let mut input = Input(data);
    let length = input.u32() % (LONGEST + 1);
    let file = File::from(memory(length.into()));
    while !input.is_empty() {
        let at = input.u32();
        let count = input.u16();
        let bytes = input.bytes(count.into());
        if at < length {
            let room = bytes.len().min((length - at) as usize);
            file.write_all_at(&bytes[..room], at.into()).expect("a file in memory");
        }
    }
    if let Ok(size) = examine(format, file) {
        assert!(size.is_multiple_of(512) && size >= 1 << 20);
    }
}

/// One part of a disk file's input.
#[must_use]
pub fn part(at: u32, bytes: &[u8]) -> Vec<u8> {
    [&at.to_be_bytes()[..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A recipe, in a folder that does not exist.
pub fn recipe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("/nonexistent/recipe.toml");
    if let Ok(recipe) = Recipe::parse(path, text) {
        let again = Recipe::parse(path, text).expect("it was understood");
        assert_eq!(recipe.hash(), again.hash());
        assert!(!recipe.packages.is_empty() && recipe.files.keys().all(|path| path.is_relative()));
    }
}
