//! Disks of other makers become images, after they have booted.

#![allow(clippy::unwrap_used)]

use lucarne_tests::server::{Server, Turn, data_dir, lucarne, names};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn qemu_img(words: &[&str], files: &[&Path], size: Option<&str>) {
    let status = Command::new("qemu-img").args(words).args(files).args(size).status().unwrap();
    assert!(status.success(), "qemu-img {words:?}: {status}");
}

fn import(file: &Path, format: &str, name: &str) -> Value {
    let file = file.to_str().unwrap();
    let words = ["image", "import", file, "--format", format, "--name", name, "--output", "json"];
    let output = lucarne(&words).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The turn, the store's folder, the disk of an image in there, and room for other files.
fn store() -> (Turn, PathBuf, PathBuf, TempDir) {
    // The first start makes the image.
    Server::start().stop();
    let turn = Turn::take();
    let images = data_dir().join("host/images");
    let image = names(&images).into_iter().find(|name| images.join(name).join("image.json").exists());
    let disk = images.join(image.unwrap()).join("disk.qcow2");
    (turn, images, disk, tempfile::tempdir_in(data_dir()).unwrap())
}

#[test]
fn a_disk_of_another_format_is_booted_and_becomes_an_image_whose_name_is_its_digest() {
    let (_turn, images, disk, temporary) = store();
    let before = names(&images);
    let (larger, file) = (temporary.path().join("larger.qcow2"), temporary.path().join("desktop.vhdx"));
    qemu_img(
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk.to_str().unwrap()],
        &[&larger],
        Some("12G"),
    );
    qemu_img(&["convert", "-f", "qcow2", "-O", "vhdx"], &[&larger, &file], None);
    let image = import(&file, "vhdx", "other");
    assert_eq!((&image["name"], &image["source"]), (&"other".into(), &"import:vhdx".into()));
    assert_eq!(image["virtual_size"], 12_u64 << 30);
    let new: Vec<String> = names(&images).into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(new, [image["digest"].as_str().unwrap()]);
    let folder = images.join(&new[0]);
    let sum = Command::new("sha256sum").arg(folder.join("disk.qcow2")).output().unwrap();
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(&new[0]), "{sum:?} is not {}", new[0]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_disk_that_is_here_already_is_not_imported_again() {
    let (_turn, images, disk, temporary) = store();
    let before = names(&images);
    let file = temporary.path().join("desktop.raw");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&disk, &file], None);
    let image = import(&file, "raw", "other");
    assert_ne!(image["name"], "other");
    assert_eq!(names(&images), before);
}
