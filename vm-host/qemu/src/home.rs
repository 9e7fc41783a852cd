//! The user's disk in a guest: plugged while the clone waits, and mounted as the home directory before its user may type.
//!
//! The disk is not part of the template, whose device state knows nothing of it. The guest's own programs make and check the file
//! system on it: the host reads nothing of what a guest has written there. A session that runs already holds files of the home
//! directory that the template came with, so it is ended before the disk is mounted and started after it.

use crate::command::files;
use crate::guest_agent::GuestAgent;
use crate::qmp::{Qmp, QmpError};
use lucarne_driver::VmError;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// The PCI Express root port that the disk is in; the first is the network card's.
const SLOT: &str = "slot2";

/// How the guest knows the disk: the serial number of its device.
const SERIAL: &str = "lucarne-home";

/// How long the guest agent may take to answer. It was just forked.
const AGENT_LIMIT: Duration = Duration::from_secs(60);

/// How long a guest may take for all of it. A file system that was not unmounted is checked, which on a large disk takes a while.
const MOUNT_LIMIT: Duration = Duration::from_secs(300);

/// Plugs the disk into a clone that has loaded its template.
///
/// # Errors
/// QEMU refuses it, such as for a file that is not there.
pub(crate) async fn plug(qmp: &Qmp, disk: &Path) -> Result<(), QmpError> {
    let file = json!({ "driver": "file", "filename": disk, "discard": "unmap" });
    let node = json!({ "driver": "raw", "node-name": "home", "file": file, "discard": "unmap" });
    qmp.execute("blockdev-add", node).await?;
    let device = json!({
        "driver": "virtio-blk-pci", "id": "home0", "drive": "home", "bus": SLOT, "serial": SERIAL, "num-queues": 1,
    });
    qmp.execute("device_add", device).await.map(drop)
}

/// What the guest does, as root. The user is the one with the lowest number that people have (login.defs(5), `UID_MIN`). A
/// disk's file system gets its label last: without it, its making did not come to its end, or it is no disk of ours. It is
/// entered in fstab(5), so that a guest that starts again has it again, and nobody saves where it will be lost. One copy of it runs at a
/// time, and the next goes on where one was given up: what has to be started again is in a file.
const SCRIPT: &str = r#"set -e
fail() { echo "$1" >&2; exit 1; }
mkdir -p /run/lucarne-home
exec 9>/run/lucarne-home/lock
flock 9
label=lucarne-home
stopped=/run/lucarne-home/stopped
start() {
    if [ -e $stopped ]; then
        rm -f /run/lucarne/session-ready
        while read -r unit; do systemctl start "$unit" 9>&-; done < $stopped
        rm $stopped
    fi
}
account=$(awk -F: '$3 >= 1000 && $3 < 60000 { print $3 ":" $4 ":" $6 }' /etc/passwd | sort -n | head -n 1)
[ -n "$account" ] || fail "the guest has no user with a number from 1000 on"
uid=${account%%:*}; rest=${account#*:}; gid=${rest%%:*}; home=${rest#*:}
[ -d "$home" ] || fail "the home directory $home of the guest's user is not there"
command -v mkfs.ext4 >/dev/null || fail "the guest has no mkfs.ext4; install e2fsprogs in its image"
device=
for attempt in $(seq 300); do
    for serial in /sys/block/vd*/serial; do
        if [ "$(cat "$serial" 2>/dev/null)" = @SERIAL@ ]; then
            device=/dev/$(basename "$(dirname "$serial")")
        fi
    done
    if [ -b "$device" ]; then break; fi
    sleep 0.1
done
[ -b "$device" ] || fail "the guest does not see the disk"
if grep -q "^$device $home " /proc/mounts; then start; exit 0; fi
# Exit status 1 of fsck: it mended something.
check() { fsck.ext4 -p "$device" >/dev/null 2>&1 || [ $? = 1 ] || fail "its file system is damaged; fsck.ext4 cannot mend it by itself"; }
found=$(blkid -p -s LABEL -o value "$device" || true)
if [ "$found" = $label ]; then check; elif [ @FRESH@ != yes ]; then fail "it has no file system of a home directory, though a guest came up with it before; an administrator can look at it on its host, or delete it"; fi
sessions=
for unit in lucarne-session.service display-manager.service; do
    if systemctl is-active --quiet $unit; then
        sessions="$sessions $unit"
        grep -qsx $unit $stopped || echo $unit >> $stopped
        systemctl stop $unit
    fi
done
systemctl stop "user@$uid.service" 2>/dev/null || true
if [ "$found" != $label ]; then
    umount /run/lucarne-home/new 2>/dev/null || true
    mkfs.ext4 -q -F -m 0 "$device" || fail "mkfs.ext4 failed"
    mkdir -p /run/lucarne-home/new
    mount "$device" /run/lucarne-home/new
    cp -a "$home/." /run/lucarne-home/new/
    umount /run/lucarne-home/new
    e2label "$device" $label
fi
options=nosuid,nodev
grep -q "^LABEL=$label " /etc/fstab || echo "LABEL=$label $home ext4 $options 0 2" >> /etc/fstab
mount -o $options "$device" "$home"
chown "$uid:$gid" "$home"
start
case $sessions in *lucarne-session*)
    for attempt in $(seq 100); do
        if [ -e /run/lucarne/session-ready ]; then break; fi
        sleep 0.1
    done
esac
"#;

/// Mounts the disk in the guest that runs in `dir`; nothing where that is done already. With `fresh` its file system is made
/// where it has none, with what the template has in the home directory.
///
/// # Errors
/// The guest agent does not answer, or says why it is not mounted.
pub(crate) async fn mount(dir: &Path, fresh: bool) -> Result<(), VmError> {
    let failed = |why: String| VmError::Guest { what: "its home disk".into(), why };
    let mut agent = GuestAgent::connect(&dir.join(files::GUEST_AGENT), AGENT_LIMIT)
        .await
        .map_err(|e| failed(e.to_string()))?;
    let script = SCRIPT.replace("@SERIAL@", SERIAL).replace("@FRESH@", if fresh { "yes" } else { "no" });
    agent.shell(&script, MOUNT_LIMIT).await.map(drop).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_that_a_shell_understands() {
        let script = SCRIPT.replace("@SERIAL@", SERIAL).replace("@FRESH@", "no");
        assert!(!script.contains('@') || script.contains("user@$uid"), "{script}");
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
