//! QEMU's command line: one machine, described once, for the template's boot and for every clone.
//!
//! A clone loads the template's device state, so both must have the same devices in the same order. What differs is
//! only how memory is mapped, the overlay, and whether QEMU waits for incoming state. QEMU runs in the desktop's own
//! folder with relative paths, because a Unix socket's path holds no more than 107 bytes.

use crate::binary::{Accel, Qemu};
use lucarne_control::spec::MachineShape;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// File names in the folder of a running QEMU.
pub mod files {
    /// Control socket (QMP).
    pub const QMP: &str = "qmp.sock";
    /// The guest agent's port.
    pub const GUEST_AGENT: &str = "qga.sock";
    /// The identity helper's port.
    pub const IDENTITY: &str = "identity.sock";
    /// spice-vdagent's port.
    pub const VDAGENT: &str = "vdagent.sock";
    /// QEMU's process id.
    pub const PID: &str = "qemu.pid";
    /// What QEMU prints.
    pub const LOG: &str = "qemu.log";
    /// The writable disk.
    pub const DISK: &str = "disk.qcow2";
    /// The guest's state while it is suspended: its memory, as far as it differs from where it began, and its devices.
    pub const SUSPENDED: &str = "suspended";
    /// The GUID that `vmgenid` shows to the guest.
    pub const GENERATION: &str = "generation";
}

/// MiB of translated code that one TCG guest may keep; QEMU's default is a gigabyte. Only what is used is memory: an idle
/// clone uses a fifth of it, and a user's programs the rest. When it is full, QEMU throws all of it away and translates again
/// (`info jit` counts the flushes): with 64 a web browser took twice as long to start, with 32 four times.
const TCG_BUFFER_MIB: u32 = 256;

/// Names of a machine's network parts in QEMU.
pub mod network {
    /// The card.
    pub const CARD: &str = "nic0";
    /// The PCI Express root port that the card is in.
    pub const SLOT: &str = "slot1";
    /// User-mode networking.
    pub const UPLINK: &str = "uplink";
    /// The hub's port that the card is connected to.
    pub const HUB_PORT: &str = "hub-card";
    /// The hub's port that user-mode networking is connected to.
    pub const UPLINK_PORT: &str = "hub-uplink";
}

/// Serial ports of programs in the guest: chardev, socket, and the port's name.
const PORTS: [(&str, &str, &str); 3] = [
    ("guest-agent", files::GUEST_AGENT, "org.qemu.guest_agent.0"),
    ("identity", files::IDENTITY, "org.lucarne.identity.0"),
    ("vdagent", files::VDAGENT, "com.redhat.spice.0"),
];

/// The audio backend, which hands out what the sound card plays through the display's D-Bus.
const SOUND: &str = "sound";

/// Outputs of the display device. With one more, QEMU would read outside of it ([`crate::device_state`]).
const OUTPUTS: u32 = 3;

/// PCI Express root ports, for what is plugged after a fork: network, home disk, one spare.
const ROOT_PORTS: u32 = 3;

/// How the guest's memory is backed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The template writes this file.
    Template(PathBuf),
    /// The clone maps this file privately: it reads the template's pages and keeps its own.
    Clone(PathBuf),
    /// Its own, empty at first: it boots from its disk.
    Own,
}

/// Where the guest starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Power on.
    Boot,
    /// Power on, and wait for `cont`.
    Held,
    /// Wait for a device state (`migrate-incoming`), then for `cont`.
    Incoming,
}

/// Everything that decides a command line.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// The program.
    pub qemu: &'a Qemu,
    /// What executes the guest.
    pub accel: Accel,
    /// The virtual hardware.
    pub shape: MachineShape,
    /// The guest's memory.
    pub memory: Memory,
    /// Boot or load.
    pub start: Start,
    /// The address of the network card that the machine has from its start; without, one may be plugged later.
    pub card: Option<String>,
    /// With user-mode networking for the card to be connected to.
    pub network: bool,
    /// Shown by ps.
    pub name: String,
    /// A fresh GUID for `vmgenid`, which makes the guest's kernel reseed its random numbers.
    pub generation_id: uuid::Uuid,
}

impl Machine<'_> {
    /// The arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut arg = |name: &str, value: String| {
            args.push(format!("-{name}").into());
            if !value.is_empty() {
                args.push(value.into());
            }
        };
        arg("name", format!("{},debug-threads=on", self.name));
        arg("nodefaults", String::new());
        arg("no-user-config", String::new());
        arg("sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
        arg("machine", "q35,memory-backend=mem,vmport=off,smm=off,i8042=off,hpet=off".into());
        match self.accel {
            Accel::Kvm => {
                arg("accel", "kvm".into());
                arg("cpu", "host".into());
            }
            Accel::Tcg => {
                arg("accel", format!("tcg,thread=multi,tb-size={TCG_BUFFER_MIB}"));
                arg("cpu", "max".into());
            }
        }
        arg("smp", self.shape.vcpus.to_string());
        arg("m", format!("{}M", self.shape.memory_mib));
        arg("object", self.memory_object());
        arg("rtc", "base=utc,driftfix=slew".into());
        // QEMU mixes and resamples to what [`lucarne_driver::AudioSink`] takes, 10 ms at a time. It looks more often than that:
        // its timer is always a little late, it hands out one piece each time, and sound would be too slow by as much.
        let fixed =
            "out.mixing-engine=on,out.fixed-settings=on,out.frequency=48000,out.channels=2,out.format=s16";
        arg(
            "audiodev",
            format!("dbus,id={SOUND},{fixed},out.voices=1,in.voices=0,nsamples=480,timer-period=8000"),
        );
        arg("display", format!("dbus,p2p=yes,audiodev={SOUND}"));
        arg(
            "device",
            format!(
                "virtio-vga,id=gpu,edid=on,max_outputs={OUTPUTS},xres={},yres={}",
                self.shape.width, self.shape.height
            ),
        );
        arg("device", "virtio-keyboard-pci,id=keyboard".into());
        arg("device", "virtio-tablet-pci,id=tablet".into());
        arg("object", "rng-random,id=random,filename=/dev/urandom".into());
        arg("device", "virtio-rng-pci,id=rng,rng=random".into());
        arg("device", format!("vmgenid,id=generation,guid={}", self.generation_id));
        arg("blockdev", format!("driver=file,node-name=disk-file,filename={},discard=unmap", files::DISK));
        arg("blockdev", "driver=qcow2,node-name=disk,file=disk-file,discard=unmap".into());
        arg("device", "virtio-blk-pci,id=disk0,drive=disk,bootindex=1,num-queues=1".into());
        // As few ports as there are programs at them: each has two queues, and QEMU's main thread polls every queue each time
        // that it wakes up.
        arg("device", format!("virtio-serial-pci,id=ports,max_ports={}", PORTS.len() + 1));
        for (chardev, file, port) in PORTS {
            arg("chardev", format!("socket,id={chardev},path={file},server=on,wait=off"));
            arg("device", format!("virtserialport,chardev={chardev},name={port},id=port-{chardev}"));
        }
        // Intel HD Audio, because virtio-sound's streams are not part of its device state (QEMU 10.0). Without a mixer: what
        // the guest plays arrives as loud as it is, whatever its driver makes of amplifiers.
        arg("device", "ich9-intel-hda,id=hda".into());
        arg("device", format!("hda-output,id=speaker,bus=hda.0,audiodev={SOUND},mixer=off"));
        for port in 1..=ROOT_PORTS {
            arg("device", format!("pcie-root-port,id=slot{port},chassis={port},slot={port}"));
        }
        // The last 64 KiB of the serial console, for whoever asks why a guest did not come up (`ringbuf-read`).
        arg("chardev", "ringbuf,id=console,size=65536".into());
        arg("device", "isa-serial,chardev=console".into());
        if self.network {
            arg("netdev", format!("user,id={}", network::UPLINK));
        }
        if let Some(mac) = &self.card {
            let (card, hub, port) = (network::CARD, network::HUB_PORT, network::UPLINK_PORT);
            // A hub, because the device state of a card depends on what it is connected to, and the network behind a hub
            // may be there or not.
            arg("netdev", format!("hubport,id={hub},hubid=0"));
            let bus = network::SLOT;
            arg("device", format!("virtio-net-pci,id={card},netdev={hub},bus={bus},mac={mac},romfile="));
            if self.network {
                arg("netdev", format!("hubport,id={port},hubid=0,netdev={}", network::UPLINK));
            }
        }
        arg("chardev", format!("socket,id=control,path={},server=on,wait=off", files::QMP));
        arg("mon", "chardev=control,mode=control".into());
        arg("pidfile", files::PID.into());
        if self.start == Start::Incoming {
            arg("incoming", "defer".into());
        }
        if self.start != Start::Boot {
            arg("S", String::new());
        }
        args
    }

    fn memory_object(&self) -> String {
        let size = self.shape.memory_mib;
        match &self.memory {
            Memory::Template(path) => {
                format!("memory-backend-file,id=mem,size={size}M,share=on,mem-path={}", escape(path))
            }
            Memory::Clone(path) => format!(
                "memory-backend-file,id=mem,size={size}M,share=off,readonly=on,rom=off,mem-path={}",
                escape(path)
            ),
            Memory::Own => format!("memory-backend-ram,id=mem,size={size}M"),
        }
    }
}

/// QEMU splits option lists at commas; a doubled comma is a literal one.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(memory: Memory, start: Start, network: bool) -> Vec<String> {
        let qemu = Qemu { path: "/usr/bin/qemu".into(), version: "10.0.2".into() };
        let machine = Machine {
            qemu: &qemu,
            accel: Accel::Tcg,
            shape: MachineShape::default(),
            memory,
            start,
            card: Some("52:54:00:00:00:02".into()),
            network,
            name: "test".into(),
            generation_id: uuid::Uuid::nil(),
        };
        machine.arguments().into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn a_clone_has_exactly_its_templates_devices_in_the_same_order() {
        let devices = |args: &[String]| {
            args.windows(2).filter(|w| w[0] == "-device").map(|w| w[1].clone()).collect::<Vec<_>>()
        };
        let template = arguments(Memory::Template("/t/mem".into()), Start::Boot, true);
        let clone = arguments(Memory::Clone("/t/mem".into()), Start::Incoming, false);
        assert_eq!(devices(&template), devices(&clone));
        assert_eq!(
            devices(&template),
            devices(&arguments(Memory::Own, Start::Held, true)),
            "nor does a boot change it"
        );
        assert!(!devices(&clone).is_empty());
    }

    #[test]
    fn a_clone_can_never_write_its_templates_memory() {
        let clone = arguments(Memory::Clone("/t/mem".into()), Start::Incoming, true).join(" ");
        assert!(clone.contains("share=off,readonly=on"), "{clone}");
        assert!(!clone.contains("share=on"), "{clone}");
    }

    #[test]
    fn a_boot_from_its_own_disk_has_memory_of_its_own_and_a_guest_may_always_restart() {
        let boot = arguments(Memory::Own, Start::Held, true);
        assert!(boot.contains(&"memory-backend-ram,id=mem,size=1024M".to_owned()), "{boot:?}");
        assert!(boot.contains(&"-S".to_owned()) && !boot.contains(&"-incoming".to_owned()), "{boot:?}");
        for args in [boot, arguments(Memory::Clone("/t/mem".into()), Start::Incoming, true)] {
            assert!(!args.contains(&"-no-reboot".to_owned()), "{args:?}");
        }
    }

    #[test]
    fn a_comma_in_the_data_directory_does_not_split_the_option() {
        let clone = arguments(Memory::Clone("/a,b/mem".into()), Start::Incoming, true).join(" ");
        assert!(clone.contains("mem-path=/a,,b/mem"), "{clone}");
    }
}
