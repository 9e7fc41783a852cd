//! What a probe run means, for people. It knows nothing of how the guest was run.

use crate::guest::{self, Page};
use std::fmt;
use std::io;
use thiserror::Error;

/// Whether stock guest kernels run under this machine's KVM.
#[derive(Debug)]
pub enum Probe {
    /// They do.
    Usable,
    /// They do not, and why.
    Unusable(Reason),
}

impl Probe {
    /// Whether KVM may be used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("KVM runs ordinary guests"),
            Self::Unusable(reason) => write!(f, "{reason}"),
        }
    }
}

/// Why KVM can't be used, and what to do where something can be done.
#[derive(Debug, Error)]
pub enum Reason {
    /// There is no device.
    #[error(
        "/dev/kvm is missing: virtualization is off in the firmware, the module kvm_intel or kvm_amd is not loaded, \
         or this is a virtual machine whose host does not offer nested virtualization"
    )]
    Missing,
    /// The device may not be opened.
    #[error("no permission for /dev/kvm: run as root, or add the user to the group {group}")]
    Permission {
        /// The name or the number of the group that owns the device.
        group: String,
    },
    /// The device can't be opened for another reason.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(io::Error),
    /// The device speaks another version of the interface.
    #[error("/dev/kvm speaks version {0} of its interface, and 12 is the one in use")]
    Version(i32),
    /// KVM refused a step on the way to the guest.
    #[error("KVM here does not run ordinary guests: {step} failed: {error}")]
    Setup {
        /// The step.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The guest stopped short of its end.
    #[error("KVM here does not run ordinary guests: {at} failed with {stop}")]
    Stopped {
        /// Where.
        at: Instruction,
        /// How.
        stop: Stop,
    },
    /// The guest came to its end, and what an instruction left is wrong.
    #[error("KVM here does not run ordinary guests: {0} gave a wrong result")]
    WrongResult(Instruction),
    /// The guest did not come to its end in time.
    #[error(
        "KVM here does not run ordinary guests: a guest of five instructions did not end within {limit:?}"
    )]
    TimedOut {
        /// The limit.
        limit: std::time::Duration,
    },
    /// The probe itself could not run.
    #[error("the KVM probe could not run: {0}")]
    Probe(io::Error),
}

/// What the guest was at when it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `cmpxchg16b`: exchanges 16 bytes atomically.
    Cmpxchg16b,
    /// `xrstor64`: loads the processor's extended state.
    Xrstor64,
    /// Something between or aside, at this address.
    Other(u64),
}

impl Instruction {
    fn at(rip: u64) -> Self {
        if guest::CMPXCHG16B_AT.contains(&rip) {
            Self::Cmpxchg16b
        } else if guest::XRSTOR64_AT.contains(&rip) {
            Self::Xrstor64
        } else {
            Self::Other(rip)
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cmpxchg16b => f.write_str("the processor's instruction cmpxchg16b"),
            Self::Xrstor64 => f.write_str("the processor's instruction xrstor64"),
            Self::Other(rip) => write!(f, "the instruction at guest address {rip:#x}"),
        }
    }
}

/// How `KVM_RUN` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest halted.
    Halt,
    /// The guest took this exception.
    Exception(u8),
    /// KVM tried to emulate the instruction and can't (`KVM_INTERNAL_ERROR_EMULATION`).
    Emulation,
    /// Another internal error of KVM, by its sub-error.
    Internal(u32),
    /// An exception while handling an exception while handling an exception.
    TripleFault,
    /// The processor refused to enter the guest, with the hardware's reason.
    Entry(u64),
    /// `KVM_RUN` itself failed, with the system's error number.
    Run(i32),
    /// An exit that the guest's instructions do not cause.
    Unexpected(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halt => f.write_str("a halt in the wrong place"),
            Self::Exception(vector) => write!(f, "exception {vector} ({}) in the guest", exception(*vector)),
            Self::Emulation => {
                f.write_str("an internal error of KVM, which tried to emulate it instead of running it")
            }
            Self::Internal(code) => write!(f, "an internal error of KVM (sub-error {code})"),
            Self::TripleFault => f.write_str("a triple fault of the guest"),
            Self::Entry(reason) => {
                write!(f, "the processor refusing to enter the guest (reason {reason:#x})")
            }
            Self::Run(errno) => write!(f, "KVM_RUN: {}", io::Error::from_raw_os_error(*errno)),
            Self::Unexpected(exit) => write!(f, "an unexpected exit ({exit})"),
        }
    }
}

fn exception(vector: u8) -> &'static str {
    match vector {
        6 => "#UD, invalid opcode",
        7 => "#NM, device not available",
        8 => "#DF, double fault",
        12 => "#SS, stack fault",
        13 => "#GP, general protection",
        14 => "#PF, page fault",
        17 => "#AC, alignment check",
        18 => "#MC, machine check",
        _ => "unnamed here",
    }
}

/// Judges a run by how it stopped, where (`rip`, `rsp`), and by what it left in `memory`.
pub fn judge(stop: Stop, rip: u64, rsp: u64, memory: &[Page]) -> Probe {
    if stop != Stop::Halt {
        return Probe::Unusable(Reason::Stopped { at: Instruction::at(rip), stop });
    }
    if let Some(vector) = guest::vector_halted_at(rip) {
        let [first, second] = guest::words(memory, rsp);
        let faulted = if guest::has_error_code(vector) { second } else { first };
        return Probe::Unusable(Reason::Stopped {
            at: Instruction::at(faulted),
            stop: Stop::Exception(vector),
        });
    }
    if rip != guest::DONE {
        return Probe::Unusable(Reason::Stopped { at: Instruction::at(rip.saturating_sub(1)), stop });
    }
    for (address, wanted, instruction) in [
        (guest::OPERAND, guest::AFTER, Instruction::Cmpxchg16b),
        (guest::RESULT, guest::XMM0, Instruction::Xrstor64),
    ] {
        if guest::words(memory, address) != wanted {
            return Probe::Unusable(Reason::WrongResult(instruction));
        }
    }
    Probe::Usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memory: &mut [Page], address: u64, words: [u64; 2]) {
        let at = address as usize;
        let bytes = words.map(u64::to_le_bytes).concat();
        memory[at / Page::SIZE].0[at % Page::SIZE..][..16].copy_from_slice(&bytes);
    }

    fn finished() -> Vec<Page> {
        let mut memory = guest::memory();
        put(&mut memory, guest::OPERAND, guest::AFTER);
        put(&mut memory, guest::RESULT, guest::XMM0);
        memory
    }

    fn text(probe: &Probe) -> String {
        assert!(!probe.is_usable());
        probe.to_string()
    }

    #[test]
    fn only_a_halt_at_the_end_with_both_results_is_usable() {
        assert!(judge(Stop::Halt, guest::DONE, 0, &finished()).is_usable());
        assert!(!judge(Stop::Halt, guest::DONE - 1, 0, &finished()).is_usable());
        assert!(!judge(Stop::TripleFault, guest::DONE, 0, &finished()).is_usable());
    }

    #[test]
    fn a_halt_with_a_wrong_result_names_the_instruction() {
        let mut memory = finished();
        put(&mut memory, guest::RESULT, [0, 0]);
        let said = text(&judge(Stop::Halt, guest::DONE, 0, &memory));
        assert!(said.contains("xrstor64 gave a wrong result"), "{said}");
        put(&mut memory, guest::OPERAND, guest::BEFORE);
        let said = text(&judge(Stop::Halt, guest::DONE, 0, &memory));
        assert!(said.contains("cmpxchg16b gave a wrong result"), "{said}");
    }

    #[test]
    fn an_emulation_failure_names_the_instruction_that_it_stopped_at() {
        let said = text(&judge(Stop::Emulation, guest::CODE, 0, &guest::memory()));
        assert!(said.contains("cmpxchg16b failed with an internal error of KVM"), "{said}");
        let said = text(&judge(Stop::Emulation, guest::XRSTOR64_AT.start, 0, &guest::memory()));
        assert!(said.contains("xrstor64 failed with an internal error of KVM"), "{said}");
    }

    #[test]
    fn an_exception_is_traced_to_its_instruction_by_the_frame_on_the_stack() {
        let stub = |vector: u64| 0x6000 + vector * 16 + 1;
        let rsp = guest::STACK_TOP - 48;
        let mut memory = guest::memory();
        put(&mut memory, rsp, [guest::XRSTOR64_AT.start, 8]);
        let said = text(&judge(Stop::Halt, stub(6), rsp, &memory));
        assert!(said.contains("xrstor64 failed with exception 6 (#UD, invalid opcode)"), "{said}");
        // General protection pushes an error code first.
        put(&mut memory, rsp, [0, guest::CODE]);
        let said = text(&judge(Stop::Halt, stub(13), rsp, &memory));
        assert!(said.contains("cmpxchg16b failed with exception 13 (#GP"), "{said}");
    }

    #[test]
    fn every_way_to_stop_says_something_else() {
        let stops = [
            Stop::Halt,
            Stop::Exception(6),
            Stop::Emulation,
            Stop::Internal(3),
            Stop::TripleFault,
            Stop::Entry(0x8000_0021),
            Stop::Run(14),
            Stop::Unexpected("MmioRead".into()),
        ];
        let mut texts: Vec<String> = stops.iter().map(ToString::to_string).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), stops.len());
    }
}
