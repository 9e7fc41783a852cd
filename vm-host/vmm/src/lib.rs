//! KVM: the probe that tells whether stock guest kernels run under this machine's `/dev/kvm`.
//!
//! Opening `/dev/kvm` proves nothing: on some machines it runs only paravirtualized guests and stops at the first
//! instruction that it would have to emulate. [`probe`] runs a guest of a few instructions in 64-bit mode that every
//! stock kernel needs, and believes only their results.
//!
//! This crate knows nothing of QEMU, of desktops or of displays. Only this crate talks to KVM.

mod guest;
mod machine;
mod outcome;
mod probe;

pub use outcome::{Instruction, Probe, Reason, Stop};
pub use probe::probe;
