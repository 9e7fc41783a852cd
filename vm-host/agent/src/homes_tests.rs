use super::*;
use lucarne_control::agent::Followed;

fn home(disk: DiskId, fresh: bool) -> HomeDesired {
    HomeDesired { disk, size_mib: 3, fresh }
}

struct Place {
    root: tempfile::TempDir,
    hub: Hub,
    homes: Homes,
}

impl Place {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(root: tempfile::TempDir) -> Self {
        let hub = Hub::new(Followed::default(), 16);
        let homes = Homes::new(root.path().join("homes"), hub.clone());
        homes.find(&root.path().join("desktops"));
        Self { root, hub, homes }
    }

    /// The agent ends, and another begins.
    fn again(self) -> Self {
        Self::at(self.root)
    }

    fn desktop(&self) -> DesktopId {
        let id = DesktopId::generate();
        fs::create_dir_all(self.root.path().join("desktops").join(id.to_string())).unwrap();
        id
    }

    fn told(&self) -> Vec<DiskId> {
        self.hub.listen().0.disks
    }

    fn put(&self, desktop: DesktopId, home: HomeDesired) -> Result<Attached, String> {
        self.homes.attach(desktop, home, None).map_err(|refused| match refused {
            Refused::Held(by) => format!("held by {by}"),
            Refused::Not(why) => why,
        })
    }
}

#[test]
fn a_disk_goes_from_desktop_to_desktop_with_what_is_on_it_and_is_in_one_at_a_time() {
    let (place, disk) = (Place::new(), DiskId::generate());
    let (first, second) = (place.desktop(), place.desktop());
    let attached = place.put(first, home(disk, true)).unwrap();
    assert_eq!(place.told(), [disk]);
    assert_eq!(fs::metadata(&attached.path).unwrap().len(), 3 << 20);
    fs::write(&attached.path, "saved").unwrap();
    assert_eq!(place.put(first, home(disk, false)), Ok(attached), "done again");
    assert_eq!(place.put(second, home(disk, false)), Err(format!("held by {first}")));
    place.homes.detach(second).expect("it has none");
    assert_eq!(place.homes.held_by(first), Some(disk));
    place.homes.detach(first).unwrap();
    let attached = place.put(second, home(disk, false)).unwrap();
    assert_eq!(fs::read_to_string(attached.path).unwrap(), "saved");
}

#[test]
fn an_agent_that_is_started_again_knows_who_has_a_disk_and_who_only_waits_for_it() {
    let (place, disk) = (Place::new(), DiskId::generate());
    let (first, waits) = (place.desktop(), place.desktop());
    let attached = place.put(first, home(disk, true)).unwrap();
    fs::write(&attached.path, "saved").unwrap();
    place.put(waits, home(disk, false)).unwrap_err();
    let place = place.again();
    assert_eq!((place.homes.held_by(first), place.homes.held_by(waits)), (Some(disk), None));
    assert_eq!(place.put(waits, home(disk, false)), Err(format!("held by {first}")));
    // It ended between the end of its desktop's folder and what comes after it.
    fs::remove_dir(place.root.path().join("desktops").join(first.to_string())).unwrap();
    let place = place.again();
    assert_eq!(place.told(), [disk]);
    let attached = place.put(waits, home(disk, false)).unwrap();
    assert_eq!(fs::read_to_string(attached.path).unwrap(), "saved");
}

#[test]
fn a_disk_is_fresh_until_a_guest_came_up_with_it() {
    let (place, disk) = (Place::new(), DiskId::generate());
    for _ in 0..2 {
        let desktop = place.desktop();
        assert!(place.put(desktop, home(disk, true)).unwrap().fresh);
        place.homes.detach(desktop).unwrap();
    }
    place.homes.used(disk);
    let place = place.again();
    assert!(!place.put(place.desktop(), home(disk, true)).unwrap().fresh);
}

#[test]
fn a_disk_that_was_here_once_is_never_made_anew() {
    let (place, disk) = (Place::new(), DiskId::generate());
    let why = place.put(place.desktop(), home(disk, false)).unwrap_err();
    assert!(why.contains("was on this host and is not any more"), "{why}");
    assert!(place.told().is_empty());
}

#[test]
fn a_disk_that_is_to_be_destroyed_goes_when_its_desktop_has_done_with_it() {
    let (place, disk) = (Place::new(), DiskId::generate());
    let desktop = place.desktop();
    let attached = place.put(desktop, home(disk, true)).unwrap();
    place.homes.doom(&[disk]);
    assert!(attached.path.exists(), "it is in use");
    assert!(place.put(place.desktop(), home(disk, true)).unwrap_err().contains("being destroyed"));
    place.homes.detach(desktop).unwrap();
    assert!(place.told().is_empty() && !place.homes.of(disk).exists());
    let (_, mut told) = place.hub.listen();
    place.homes.doom(&[disk]);
    assert_eq!(told.try_recv().unwrap().gone_disks, [disk], "who asks again is told again");
}

#[test]
fn who_has_a_disk_may_open_it_and_nobody_may_move_it() {
    let (place, disk) = (Place::new(), DiskId::generate());
    if !rustix::process::geteuid().is_root() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let (desktop, owner) = (place.desktop(), Credentials { id: 1_900_000_007, groups: Vec::new() });
    let attached = place.homes.attach(desktop, home(disk, true), Some(&owner)).unwrap();
    let of = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.mode() & 0o777)).unwrap();
    assert_eq!(of(&attached.path), (owner.id, 0o600));
    for dir in [place.homes.of(disk), place.root.path().join("homes")] {
        assert_eq!(of(&dir), (0, 0o711), "{}", dir.display());
    }
    place.homes.detach(desktop).unwrap();
    assert_eq!(of(&attached.path), (0, 0o600));
}
