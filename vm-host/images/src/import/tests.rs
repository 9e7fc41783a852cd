use super::*;
use proptest::prelude::*;
use std::process::Command;

struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    Place { folder, store }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A raw disk of 4 MiB with a boot sector and something to lose at its end.
    fn raw(&self) -> PathBuf {
        let path = self.path("disk.raw");
        let mut bytes = vec![0; 4 << 20];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (at, byte) in bytes[3 << 20..].iter_mut().enumerate() {
            *byte = (at * 7 % 251) as u8;
        }
        fs::write(&path, bytes).unwrap();
        path
    }

    fn qemu_img(&self, args: &[&str]) {
        let output = Command::new("qemu-img").current_dir(self.folder.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The raw disk in another format, with creation options.
    fn converted(&self, format: &str, options: &str) -> PathBuf {
        self.raw();
        let name = format!("disk.{format}");
        let mut args = vec!["convert", "-f", "raw", "-O", format];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        args.extend(["disk.raw", &name]);
        self.qemu_img(&args);
        self.path(&name)
    }

    fn prepare(&self, file: &Path, format: ImportFormat) -> Result<Prepared, ImportError> {
        let options = ImportOptions { name: "x".into(), version: "1".into(), ..ImportOptions::default() };
        import_prepare(file, format, &self.store, options, &mut |_| {})
    }

    /// The refusal's text; nothing may be left in the store.
    fn refusal(&self, file: &Path, format: ImportFormat) -> String {
        let error = self.prepare(file, format).unwrap_err();
        let text = format!("{error}");
        assert!(matches!(error, ImportError::Refused { .. }), "{text}");
        assert_eq!(fs::read_dir(self.store.dir()).unwrap().count(), 0, "{text}");
        text
    }

    fn cut(&self, file: &Path, length: u64) -> PathBuf {
        let path = self.path("cut");
        let mut bytes = fs::read(file).unwrap();
        bytes.truncate(length as usize);
        fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn every_format_becomes_the_same_disk() {
    let cases = [
        (ImportFormat::Qcow2, ""),
        (ImportFormat::Qcow2, "compat=0.10"),
        (ImportFormat::Qcow2, "extended_l2=on,cluster_size=128k"),
        (ImportFormat::Raw, ""),
        (ImportFormat::Vmdk, "subformat=monolithicSparse"),
        (ImportFormat::Vmdk, "subformat=streamOptimized"),
        (ImportFormat::Vhdx, ""),
        (ImportFormat::Vhdx, "subformat=fixed"),
    ];
    for (format, options) in cases {
        let place = place();
        let file = match format {
            ImportFormat::Raw => place.raw(),
            other => place.converted(other.as_str(), options),
        };
        let prepared =
            place.prepare(&file, format).unwrap_or_else(|error| panic!("{format} {options}: {error}"));
        let size = prepared.virtual_size();
        assert!((4 << 20..=5 << 20).contains(&size), "{format} {options}: {size}");
        let image = prepared.commit(true, &mut |_| {}).unwrap();
        assert_eq!((image.source.as_str(), image.guest_agent), (format!("import:{format}").as_str(), true));
        let disk = place.store.disk(&image);
        place.qemu_img(&["compare", "-f", "raw", "-F", "qcow2", "disk.raw", disk.to_str().unwrap()]);
    }
}

#[test]
fn a_prepared_disk_that_is_not_committed_leaves_nothing() {
    let place = place();
    let prepared = place.prepare(&place.raw(), ImportFormat::Raw).unwrap();
    assert!(prepared.disk().exists());
    prepared.abort();
    assert_eq!(fs::read_dir(place.store.dir()).unwrap().count(), 0);
}

#[test]
fn a_backing_file_is_refused() {
    let place = place();
    place.raw();
    place.qemu_img(&["create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "overlay"]);
    let text = place.refusal(&place.path("overlay"), ImportFormat::Qcow2);
    assert!(text.contains("overlay") && text.contains("backing file"), "{text}");
}

#[test]
fn an_external_data_file_is_refused() {
    let place = place();
    place.qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "outside", "4M"]);
    assert!(place.refusal(&place.path("outside"), ImportFormat::Qcow2).contains("external data file"));
    // The extension that names the file is refused by itself too, should the feature bit have been cleared.
    let mut bytes = fs::read(place.path("outside")).unwrap();
    bytes[72..80].fill(0);
    fs::write(place.path("outside"), bytes).unwrap();
    assert!(place.refusal(&place.path("outside"), ImportFormat::Qcow2).contains("external data file"));
}

#[test]
fn an_encrypted_disk_is_refused() {
    let place = place();
    let secret = ["--object", "secret,id=s,data=abc123"];
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    place.qemu_img(
        &[&["create", "-q", "-f", "qcow2"], &secret[..], &["-o", options, "locked", "4M"]].concat(),
    );
    assert!(place.refusal(&place.path("locked"), ImportFormat::Qcow2).contains("encrypted"));
}

#[test]
fn extents_in_other_files_are_refused() {
    for subformat in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let place = place();
        let file = place.converted("vmdk", &format!("subformat={subformat}"));
        let text = place.refusal(&file, ImportFormat::Vmdk);
        assert!(text.contains("points to another"), "{subformat}: {text}");
    }
}

#[test]
fn a_sparse_extent_that_hands_over_to_its_descriptor_is_refused() {
    let place = place();
    let file = place.converted("vmdk", "subformat=monolithicSparse");
    let good = fs::read(&file).unwrap();
    let with = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(place.path("changed"), bytes).unwrap();
        place.refusal(&place.path("changed"), ImportFormat::Vmdk)
    };
    assert!(with("parentCID=ffffffff", "parentCID=00000001").contains("parent"));
    assert!(with(" SPARSE ", " FLAT   ").contains("another file"));
    assert!(with("monolithicSparse", "monolithicFlat\" ").contains("not supported"));
    let mut bytes = good.clone();
    bytes[12..20].fill(0);
    fs::write(place.path("changed"), bytes).unwrap();
    assert!(place.refusal(&place.path("changed"), ImportFormat::Vmdk).contains("disk of 0 bytes"));
}

#[test]
fn a_stream_whose_footer_has_another_size_is_refused_whatever_it_is() {
    let place = place();
    let mut stream = fs::read(place.converted("vmdk", "subformat=streamOptimized")).unwrap();
    // qemu-img writes a header that needs no footer; a stream's header says that there is one.
    let footer = stream[..512].to_vec();
    stream[56..64].fill(0xff);
    let with_size = |sectors: u64| {
        let mut footer = footer.clone();
        footer[12..20].copy_from_slice(&sectors.to_le_bytes());
        [&stream[..], &footer, &[0; 512]].concat()
    };
    let sectors = (4 << 20) / 512;
    assert_eq!(check(ImportFormat::Vmdk, &with_size(sectors)).unwrap(), 4 << 20);
    for sectors in [sectors - 1, sectors + (1 << 55), u64::MAX] {
        fs::write(place.path("changed"), with_size(sectors)).unwrap();
        let text = place.refusal(&place.path("changed"), ImportFormat::Vmdk);
        assert!(text.contains("header and footer differ"), "{text}");
    }
}

#[test]
fn a_parent_of_a_vmdk_is_refused() {
    let place = place();
    place.converted("vmdk", "");
    place.qemu_img(&["create", "-q", "-f", "vmdk", "-b", "disk.vmdk", "-F", "vmdk", "child"]);
    assert!(place.refusal(&place.path("child"), ImportFormat::Vmdk).contains("parent"));
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    for format in [ImportFormat::Qcow2, ImportFormat::Vmdk, ImportFormat::Vhdx] {
        let place = place();
        let file = place.converted(format.as_str(), "");
        let length = fs::metadata(&file).unwrap().len();
        for share in [3, 10, 40, 70, 90] {
            let cut = place.cut(&file, length * share / 100);
            let text = place.refusal(&cut, format);
            let said = ["truncated", "not a ", "is damaged"].iter().any(|word| text.contains(word));
            assert!(said, "{format} at {share}%: {text}");
        }
    }
}

#[test]
fn the_wrong_format_is_named_and_never_guessed() {
    let place = place();
    let file = place.converted("qcow2", "");
    for format in [ImportFormat::Raw, ImportFormat::Vmdk, ImportFormat::Vhdx] {
        let text = place.refusal(&file, format);
        assert!(text.contains(format.as_str()), "{text}");
    }
    assert!(place.refusal(&file, ImportFormat::Raw).contains("looks like qcow2"));
    // A raw disk may hold anything, even the beginning of another format: it stays raw.
    let raw = place.raw();
    let mut bytes = fs::read(&raw).unwrap();
    bytes[..4].copy_from_slice(b"QFI\xfb");
    fs::write(&raw, bytes).unwrap();
    let image = place.prepare(&raw, ImportFormat::Raw).unwrap().commit(false, &mut |_| {}).unwrap();
    assert_eq!(image.virtual_size, 4 << 20);
}

#[test]
fn what_is_not_a_file_is_refused() {
    let place = place();
    for path in ["/dev/zero", "/"] {
        let error = place.prepare(Path::new(path), ImportFormat::Raw).unwrap_err();
        assert!(matches!(error, ImportError::NotAFile(_)), "{error}");
    }
}

#[test]
fn a_cancelled_import_leaves_nothing() {
    let place = place();
    let raw = place.raw();
    let options = ImportOptions { name: "x".into(), version: "1".into(), ..ImportOptions::default() };
    options.cancel.cancel();
    let error = import_prepare(&raw, ImportFormat::Raw, &place.store, options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ImportError::Command(CommandError::Cancelled)), "{error}");
    assert_eq!(fs::read_dir(place.store.dir()).unwrap().count(), 0);
}

fn judge(bytes: Vec<u8>) {
    for format in [ImportFormat::Qcow2, ImportFormat::Raw, ImportFormat::Vmdk, ImportFormat::Vhdx] {
        if let Ok(size) = check(format, &bytes) {
            assert!(source::DISK_SIZES.contains(&size));
        }
    }
}

/// Small files of each format, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let place = place();
    ["qcow2", "vmdk", "vhdx"]
        .into_iter()
        .map(|format| {
            let name = format!("empty.{format}");
            place.qemu_img(&["create", "-q", "-f", format, &name, "2M"]);
            let mut bytes = fs::read(place.path(&name)).unwrap();
            bytes.truncate(5 << 20);
            bytes
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_a_parser_panic(
        magic in prop::sample::select(vec![&b"QFI\xfb"[..], b"KDMV", b"# Disk Desc", b"vhdxfile", b""]),
        rest in prop::collection::vec(any::<u8>(), 0..2048),
    ) {
        judge([magic, &rest].concat());
    }
}

#[test]
fn no_damage_to_a_real_file_makes_a_parser_panic() {
    let samples = samples();
    for sample in &samples {
        judge(sample.clone());
    }
    // Headers of all three formats lie in the first KiB and around the region tables of VHDX.
    let places = prop_oneof![
        0usize..1024,
        65_536usize..65_700,
        196_608usize..196_800,
        (2usize << 20)..(2 << 20) + 65_792
    ];
    let mut runner = proptest::test_runner::TestRunner::default();
    let damage = (0..samples.len(), prop::collection::vec((places, any::<u8>()), 1..8));
    runner
        .run(&damage, |(which, changes)| {
            let mut bytes = samples[which].clone();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            judge(bytes);
            Ok(())
        })
        .unwrap();
}
