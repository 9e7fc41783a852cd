use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    (folder, store)
}

fn about(name: &str, version: &str) -> Description {
    Description {
        name: name.into(),
        version: version.into(),
        description: String::new(),
        format: "qcow2".into(),
        virtual_size: 1 << 30,
        source: format!("recipe:{name}"),
        guest_agent: true,
    }
}

fn add(store: &Store, name: &str, version: &str, content: &[u8]) -> ImageInfo {
    let staging = store.stage().unwrap();
    fs::write(staging.disk("qcow2"), content).unwrap();
    store.add(staging, about(name, version), &Cancel::default(), &mut |_| {}).unwrap()
}

fn names_in(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_added_image_is_named_by_its_sha256_and_readable_by_all() {
    let (_folder, store) = store();
    let image = add(&store, "a", "1", b"abc");
    // FIPS 180-2, appendix B.1.
    assert_eq!(image.digest.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(image.stored_size, 3);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let disk = store.disk(&image);
    assert_eq!((mode(&disk), mode(disk.parent().unwrap())), (0o444, 0o755));
    assert_eq!(names_in(store.dir()), [image.digest.as_str()], "no work is left over");
    assert_eq!(store.verify(&image.digest).unwrap(), image);
}

#[test]
fn the_same_bytes_twice_are_one_image() {
    let (_folder, store) = store();
    let first = add(&store, "a", "1", b"abc");
    let second = add(&store, "b", "2", b"abc");
    assert_eq!(first, second);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn dropped_work_leaves_nothing() {
    let (_folder, store) = store();
    let staging = store.stage().unwrap();
    fs::write(staging.disk("qcow2"), "half").unwrap();
    drop(staging);
    assert!(names_in(store.dir()).is_empty());
}

#[test]
fn opening_keeps_the_work_of_a_living_builder_and_removes_that_of_a_dead_one() {
    let (_folder, store) = store();
    let living = store.stage().unwrap();
    let dead = store.stage().unwrap();
    let path = dead.path.clone();
    // Its owner dies: the lock goes, and nobody removes the folder.
    let Staging { .. } = &dead;
    rustix::fs::flock(&dead._lock, FlockOperation::Unlock).unwrap();
    std::mem::forget(dead);

    Store::open(store.dir()).unwrap();
    assert!(living.work().exists() && !path.exists());
}

#[test]
fn a_half_written_entry_is_never_listed_and_is_set_aside() {
    let digest = ImageDigest::try_from("ab".repeat(32)).unwrap();
    let (_folder, whole) = store();
    let image = add(&whole, "a", "1", b"abc");
    let json = fs::read_to_string(whole.dir().join(image.digest.as_str()).join(ABOUT)).unwrap();
    let of = |digest: &ImageDigest| json.replace(image.digest.as_str(), digest.as_str());
    type Half<'a> = Box<dyn Fn(&Path) + 'a>;
    let halves: Vec<(&str, Half)> = vec![
        ("no image.json", Box::new(|dir| fs::write(dir.join("disk.qcow2"), "abc").unwrap())),
        ("no disk", Box::new(|dir| fs::write(dir.join(ABOUT), of(&digest)).unwrap())),
        (
            "a short disk",
            Box::new(|dir| {
                fs::write(dir.join(ABOUT), of(&digest)).unwrap();
                fs::write(dir.join("disk.qcow2"), "ab").unwrap();
            }),
        ),
        (
            "a cut image.json",
            Box::new(|dir| {
                fs::write(dir.join(ABOUT), &of(&digest)[..40]).unwrap();
                fs::write(dir.join("disk.qcow2"), "abc").unwrap();
            }),
        ),
        (
            "another image's image.json",
            Box::new(|dir| {
                fs::write(dir.join(ABOUT), &json).unwrap();
                fs::write(dir.join("disk.qcow2"), "abc").unwrap();
            }),
        ),
        (
            "a link in the disk's place",
            Box::new(|dir| {
                fs::write(dir.join(ABOUT), of(&digest)).unwrap();
                std::os::unix::fs::symlink(whole.disk(&image), dir.join("disk.qcow2")).unwrap();
            }),
        ),
    ];
    for (what, make) in halves {
        let (_folder, store) = store();
        let dir = store.dir().join(digest.as_str());
        fs::create_dir(&dir).unwrap();
        make(&dir);
        assert!(store.list().unwrap().is_empty(), "{what}");
        assert_eq!(store.get(&digest).unwrap(), None, "{what}");
        Store::open(store.dir()).unwrap();
        assert!(!dir.exists(), "{what} stays in place");
        assert!(names_in(store.dir())[0].starts_with(BROKEN), "{what} is not set aside");
    }
}

#[test]
fn a_new_image_replaces_a_damaged_one_of_its_digest() {
    let (_folder, store) = store();
    let image = add(&store, "a", "1", b"abc");
    let json = store.dir().join(image.digest.as_str()).join(ABOUT);
    fs::remove_file(&json).unwrap();
    let again = add(&store, "a", "2", b"abc");
    assert_eq!((again.digest, again.version.as_str()), (image.digest, "2"));
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn verify_notices_one_changed_byte() {
    let (_folder, store) = store();
    let image = add(&store, "a", "1", b"abc");
    let disk = store.disk(&image);
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&disk, "abd").unwrap();
    assert!(matches!(store.verify(&image.digest), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_image_is_found_by_name_version_and_digest_prefix() {
    let (_folder, store) = store();
    let one = add(&store, "desk", "1", b"one");
    let two = add(&store, "desk", "2", b"two");
    assert_eq!(store.resolve("desk:1").unwrap(), one);
    assert_eq!(store.resolve("desk:2").unwrap(), two);
    assert_eq!(store.resolve(&one.digest.as_str()[..8]).unwrap(), one);
    assert!([&one, &two].contains(&&store.resolve("desk").unwrap()));
    for wrong in ["other", "desk:3", &one.digest.as_str()[..3], ""] {
        let error = store.resolve(wrong).unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "{wrong}: {error}");
    }
}

#[test]
fn a_prefix_of_two_images_is_refused_with_both() {
    let (_folder, store) = store();
    for digest in [format!("abcdef{}", "0".repeat(58)), format!("abcdef{}", "1".repeat(58))] {
        let info = ImageInfo {
            digest: ImageDigest::try_from(digest.clone()).unwrap(),
            name: "x".into(),
            version: "1".into(),
            description: String::new(),
            format: "raw".into(),
            virtual_size: 1,
            stored_size: 1,
            created_at: 0,
            source: "import:raw".into(),
            guest_agent: false,
        };
        let dir = store.dir().join(digest);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("disk.raw"), "x").unwrap();
        fs::write(dir.join(ABOUT), serde_json::to_vec(&info).unwrap()).unwrap();
    }
    let error = store.resolve("abcdef").unwrap_err().to_string();
    assert!(error.contains("abcdef000000") && error.contains("abcdef111111"), "{error}");
}

#[test]
fn a_deleted_image_is_gone_and_deleting_it_again_says_so() {
    let (_folder, store) = store();
    let image = add(&store, "a", "1", b"abc");
    store.delete(&image.digest).unwrap();
    assert!(names_in(store.dir()).is_empty());
    assert!(matches!(store.delete(&image.digest), Err(StoreError::NotFound(_))));
}

#[test]
fn a_cancelled_add_leaves_nothing() {
    let (_folder, store) = store();
    let staging = store.stage().unwrap();
    fs::write(staging.disk("qcow2"), "abc").unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let outcome = store.add(staging, about("a", "1"), &cancel, &mut |_| {});
    assert!(matches!(outcome, Err(StoreError::Cancelled)));
    assert!(names_in(store.dir()).is_empty());
}
