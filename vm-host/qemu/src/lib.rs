//! The QEMU driver: boots an image once, freezes it as a template, and forks desktops from the template.
//!
//! Only this crate speaks QMP, QEMU's D-Bus display and the SPICE agent protocol. It knows nothing of RFB, viewers, sessions or the broker.
//!
//! ```text
//!            boot            settle               freeze
//! image ───► QEMU ───► painted and idle ───► memory file + device state + disk overlay   (read-only from here on)
//!                                                  │
//!                            fork: private map of the memory file, fresh overlay, load, cont
//!                                                  ▼
//!                                                desktop ──► off ──► boot from its own disk, with memory of its own
//!                                                   └──► suspended: what has changed of its memory ──► resumed
//! ```

mod address;
mod audio;
pub mod binary;
mod card;
pub mod command;
mod consoles;
mod dbus;
mod device_state;
pub mod disk;
mod framebuffer;
#[doc(hidden)]
pub mod fuzz;
mod guest_agent;
mod guest_state;
mod home;
mod identity;
mod input;
mod leds;
mod listener;
mod power;
pub mod process;
pub mod qmp;
pub mod save;
mod settle;
pub mod snapshot;
pub mod sparse;
pub mod start;
pub mod suspend;
pub mod template;
mod vdagent;
pub mod vm;

pub use binary::{Accel, Qemu};
pub use start::ForkRequest;
pub use template::{Template, TemplateMeta};
pub use vm::QemuVm;
