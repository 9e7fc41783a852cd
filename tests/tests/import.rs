//! Disks of other makers become images, after they have booted.

#![allow(clippy::unwrap_used)]

use lucarne_tests::server::{Server, Turn, data_dir, lucarne, names};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

/// The disk of the image that the tests run on, in another format.
fn disk(format: &str, file: &std::path::Path) {
    let images = data_dir().join("host/images");
    let image = names(&images).into_iter().find(|name| images.join(name).join("image.json").exists());
    let image = images.join(image.expect("the server has an image")).join("disk.qcow2");
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", format])
        .args([image.as_path(), file])
        .status()
        .unwrap();
    assert!(status.success(), "qemu-img: {status}");
}

#[test]
fn a_disk_of_another_format_is_booted_and_becomes_an_image_whose_digest_is_its_name() {
    // The first start makes the image.
    Server::start().stop();
    let _turn = Turn::take();
    let images = data_dir().join("host/images");
    let before = names(&images);
    let temporary = tempfile::tempdir_in(data_dir()).unwrap();
    let file = temporary.path().join("desktop.vhdx");
    disk("vhdx", &file);
    let words =
        ["image", "import", file.to_str().unwrap(), "--format", "vhdx", "--name", "other", "-o", "json"];
    let output = lucarne(&words).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let image: Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = image["digest"].as_str().unwrap();
    assert_eq!(image["name"], "other");
    let new: Vec<String> = names(&images).into_iter().filter(|name| !before.contains(name)).collect();
    let folder = images.join(new.first().expect("a new image"));
    let sum = Command::new("sha256sum").arg(folder.join("disk.qcow2")).output().unwrap();
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(digest), "{sum:?} is not {digest}");
    assert_eq!(new.len(), 1, "{new:?}");
    fs::remove_dir_all(folder).unwrap();
}
