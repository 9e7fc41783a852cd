//! The KVM calls that run the probe's guest, and the time limit on them.
//!
//! The virtual processor runs on a thread of its own. A guest that does not end is interrupted by a signal that the
//! thread blocks except inside `KVM_RUN` (`KVM_SET_SIGNAL_MASK`): it ends the call, runs no handler, and touches no
//! other thread. A kernel that does not even answer to that keeps the thread, and the caller goes on without it.

use crate::guest::{self, Page};
use crate::outcome::{Probe, Reason, Stop, judge};
use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_sregs,
    kvm_userspace_memory_region, kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Where Intel's processors may keep a task segment in guest-physical memory, as QEMU has it: outside of ours.
const TSS: usize = 0xfffb_d000;

/// How long an interrupted guest may take to give the thread back.
const GRACE: Duration = Duration::from_secs(1);

/// The processor has `xsave` and its family.
const CPUID_1_ECX_XSAVE: u32 = 1 << 26;
/// The operating system uses them.
const CR4_OSXSAVE: u64 = 1 << 18;

/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// Runs a guest of this memory until it stops, at most for `limit`.
pub fn run(kvm: Kvm, memory: Vec<Page>, limit: Duration) -> Probe {
    let (done, finished) = channel();
    let spawned = std::thread::Builder::new().name("kvm-probe".into()).spawn(move || {
        let outcome = block_interrupt().and_then(|()| run_here(&kvm, memory));
        // The receiver is gone only if the caller gave up.
        let _ = done.send(outcome);
    });
    let thread = match spawned {
        Ok(thread) => thread,
        Err(error) => return Probe::Unusable(Reason::Probe(error)),
    };
    match wait(&finished, limit) {
        Some(outcome) => outcome,
        None => {
            // SAFETY: the handle has not been joined, so the thread's id is valid.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), interrupt()) };
            // What it says now no longer counts; only that the thread is not left behind if that can be helped.
            if wait(&finished, GRACE).is_some() {
                let _ = thread.join();
            }
            Probe::Unusable(Reason::TimedOut { limit })
        }
    }
}

fn wait(finished: &Receiver<Result<Probe, Reason>>, limit: Duration) -> Option<Probe> {
    match finished.recv_timeout(limit) {
        Ok(outcome) => Some(outcome.unwrap_or_else(Probe::Unusable)),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            Some(Probe::Unusable(Reason::Probe(io::Error::other("its thread ended early"))))
        }
    }
}

/// The signal that ends `KVM_RUN`.
fn interrupt() -> libc::c_int {
    libc::SIGRTMIN()
}

fn block_interrupt() -> Result<(), Reason> {
    // SAFETY: an all-zero sigset_t is a valid place for sigemptyset to write to, and the three calls are given
    // pointers to it only.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, interrupt());
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(Reason::Probe(io::Error::from_raw_os_error(result))) }
}

/// Lets every signal, and so the interrupt, end `KVM_RUN`.
fn interruptible(vcpu: &VcpuFd) -> Result<(), Reason> {
    /// `struct kvm_signal_mask` with the kernel's eight bytes of signals behind it.
    #[repr(C)]
    struct Mask {
        len: u32,
        signals: [u8; 8],
    }
    // What the process wants to hear of goes to its other threads; here all but the interrupt stay blocked.
    let blocked = !(1u64 << (interrupt() - 1));
    let mask = Mask { len: 8, signals: blocked.to_ne_bytes() };
    // SAFETY: the descriptor is a vCPU's, and the kernel reads `len` bytes of signals from the structure.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) };
    if result == 0 {
        Ok(())
    } else {
        Err(Reason::Setup { step: "KVM_SET_SIGNAL_MASK", error: io::Error::last_os_error() })
    }
}

fn run_here(kvm: &Kvm, mut memory: Vec<Page>) -> Result<Probe, Reason> {
    let step =
        |step: &'static str| move |error: kvm_ioctls::Error| Reason::Setup { step, error: error.into() };
    let vm = kvm.create_vm().map_err(step("KVM_CREATE_VM"))?;
    vm.set_tss_address(TSS).map_err(step("KVM_SET_TSS_ADDR"))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: (memory.len() * Page::SIZE) as u64,
        userspace_addr: memory.as_mut_ptr() as u64,
    };
    // SAFETY: the pages are ours, aligned, and stay in place until the VM is dropped below, before they are read.
    unsafe { vm.set_user_memory_region(region) }.map_err(step("KVM_SET_USER_MEMORY_REGION"))?;

    let mut vcpu = vm.create_vcpu(0).map_err(step("KVM_CREATE_VCPU"))?;
    interruptible(&vcpu)?;
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(step("KVM_GET_SUPPORTED_CPUID"))?;
    let has_xsave =
        cpuid.as_slice().iter().any(|entry| entry.function == 1 && entry.ecx & CPUID_1_ECX_XSAVE != 0);
    vcpu.set_cpuid2(&cpuid).map_err(step("KVM_SET_CPUID2"))?;
    let mut sregs = vcpu.get_sregs().map_err(step("KVM_GET_SREGS"))?;
    long_mode(&mut sregs);
    if has_xsave {
        sregs.cr4 |= CR4_OSXSAVE;
    }
    vcpu.set_sregs(&sregs).map_err(step("KVM_SET_SREGS"))?;
    // Without it KVM would refuse the register; the guest then shows what is left to run.
    if has_xsave {
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        xcrs.xcrs[0].value = guest::XSTATE;
        vcpu.set_xcrs(&xcrs).map_err(step("KVM_SET_XCRS"))?;
    }
    vcpu.set_regs(&registers()).map_err(step("KVM_SET_REGS"))?;

    let stop = run_vcpu(&mut vcpu);
    let regs = vcpu.get_regs().map_err(step("KVM_GET_REGS"))?;
    drop(vcpu);
    drop(vm);
    Ok(judge(stop, regs.rip, regs.rsp, &memory))
}

fn run_vcpu(vcpu: &mut VcpuFd) -> Stop {
    match vcpu.run() {
        Ok(VcpuExit::Hlt) => Stop::Halt,
        Ok(VcpuExit::Shutdown) => Stop::TripleFault,
        Ok(VcpuExit::FailEntry(reason, _)) => Stop::Entry(reason),
        Ok(VcpuExit::InternalError) => {
            // SAFETY: the exit reason just returned says that this member of the union is the one that KVM filled.
            let code = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
            if code == KVM_INTERNAL_ERROR_EMULATION { Stop::Emulation } else { Stop::Internal(code) }
        }
        Ok(exit) => Stop::Unexpected(format!("{exit:?}")),
        Err(error) => Stop::Run(error.errno()),
    }
}

/// 64-bit mode with paging and SSE on, flat segments, the guest's tables.
fn long_mode(sregs: &mut kvm_sregs) {
    let code = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: 8,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let data = kvm_segment { selector: 16, type_: 3, l: 0, db: 1, ..code };
    sregs.cs = code;
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.gdt.base = guest::GDT;
    sregs.gdt.limit = guest::GDT_BYTES - 1;
    sregs.idt.base = guest::IDT;
    sregs.idt.limit = guest::IDT_BYTES - 1;
    sregs.cr3 = guest::PML4;
    // PE, MP, ET, NE, WP, PG
    sregs.cr0 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
    // PAE, OSFXSR, OSXMMEXCPT
    sregs.cr4 = 1 << 5 | 1 << 9 | 1 << 10;
    // LME, LMA
    sregs.efer = 1 << 8 | 1 << 10;
}

/// Everything that the guest's instructions take from registers.
fn registers() -> kvm_regs {
    kvm_regs {
        rip: guest::CODE,
        rsp: guest::STACK_TOP,
        rflags: 1 << 1,
        rdi: guest::OPERAND,
        rsi: guest::XSAVE_AREA,
        r8: guest::RESULT,
        rax: guest::BEFORE[0],
        rdx: guest::BEFORE[1],
        rbx: guest::AFTER[0],
        rcx: guest::AFTER[1],
        ..Default::default()
    }
}
