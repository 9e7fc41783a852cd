//! Where the program and its data may be: each desktop is a user of its own, who may not enter every folder.

#![allow(clippy::unwrap_used)]

use lucarne_tests::server::{Server, data_dir, lucarne, names, program};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// A folder that nobody but root may enter, on the disk of the tests' data.
fn closed() -> TempDir {
    let folder =
        tempfile::Builder::new().prefix("lucarne-closed-").tempdir_in(data_dir().parent().unwrap()).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    folder
}

#[test]
fn desktops_run_from_a_checkout_in_a_folder_that_others_may_not_enter() {
    let folder = closed();
    let copy = folder.path().join("lucarne");
    fs::copy(program(), &copy).unwrap();
    let server = Server::start_of(&copy);
    let connection = server.connect(&server.user("anna"));
    assert_eq!(server.guest(&connection).must("hostname"), connection["desktop"]["name"].as_str().unwrap());
    let id = connection["desktop"]["id"].as_str().unwrap();
    let process = server.process(&[copy.to_str().unwrap(), "--display-fd", id]);
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap().trim(), "lucarne");
    server.stop();
}

#[test]
fn a_data_directory_that_desktops_cannot_get_to_is_refused_before_anything_is_made() {
    let folder = closed();
    let data = folder.path().join("data");
    let mut up = lucarne(&["up", "--listen", "127.0.0.1:0", "--vnc-listen", "none", "--data-dir"]);
    let output = up.arg(&data).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains(&format!("chmod o+x {}", folder.path().display())), "{text}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}
