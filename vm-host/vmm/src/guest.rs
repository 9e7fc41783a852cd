//! The probe's guest: its memory, byte by byte. It knows nothing of KVM.
//!
//! Memory is nine pages, mapped one to one by a single 2 MiB page. The guest starts in 64-bit mode, runs
//! `lock cmpxchg16b`, `xrstor64`, stores what the latter loaded, and halts. Each exception vector has a stub that
//! halts too, so that where the guest halted tells what happened:
//!
//! ```text
//! 0x1000 PML4   0x2000 PDPT   0x3000 PD   0x4000 GDT, IDT   0x5000 code   0x6000 stubs   0x7000 data   0x8000 stack
//! ```

use std::ops::Range;

/// One page of guest memory, aligned as KVM wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
pub struct Page(pub [u8; Page::SIZE]);

impl Page {
    /// Bytes.
    pub const SIZE: usize = 4096;
}

/// Pages of guest memory.
pub const PAGES: usize = 9;

/// Physical address of the top page table.
pub const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
/// Physical address of the descriptor table: a null, a code and a data descriptor.
pub const GDT: u64 = 0x4000;
/// Bytes of the descriptor table.
pub const GDT_BYTES: u16 = 24;
/// Physical address of the interrupt table.
pub const IDT: u64 = 0x4800;
/// Bytes of the interrupt table.
pub const IDT_BYTES: u16 = (VECTORS * 16) as u16;
/// Where the guest starts.
pub const CODE: u64 = 0x5000;
const STUBS: u64 = 0x6000;
/// The 16 bytes that `cmpxchg16b` exchanges.
pub const OPERAND: u64 = 0x7000;
/// What `xrstor64` loads: the 512-byte legacy area and the 64-byte header (Intel SDM volume 1, section 13.4).
pub const XSAVE_AREA: u64 = 0x7400;
/// Where the guest stores `xmm0` afterwards.
pub const RESULT: u64 = 0x7800;
/// The stack's first byte past the end.
pub const STACK_TOP: u64 = 0x9000;

/// The architecture's exception vectors.
const VECTORS: u64 = 32;
/// Distance of one vector's stub from the next.
const STUB_STRIDE: u64 = 16;

/// What `cmpxchg16b` must find, low and high half.
pub const BEFORE: [u64; 2] = [0x4c75_6361_726e_6531, 0x4c75_6361_726e_6532];
/// What it must leave.
pub const AFTER: [u64; 2] = [0x0102_0304_0506_0708, 0x1112_1314_1516_1718];
/// What `xrstor64` must bring into `xmm0`.
pub const XMM0: [u64; 2] = [0xa1a2_a3a4_a5a6_a7a8, 0xb1b2_b3b4_b5b6_b7b8];

/// `xcr0` and the mask of `xrstor64`: x87 and SSE.
pub const XSTATE: u64 = 0b11;

/// `lock cmpxchg16b [rdi]`
const CMPXCHG16B: &[u8] = &[0xf0, 0x48, 0x0f, 0xc7, 0x0f];
/// `mov eax, 3; xor edx, edx`: the mask for `xrstor64`.
const MASK: &[u8] = &[0xb8, XSTATE as u8, 0, 0, 0, 0x31, 0xd2];
/// `xrstor64 [rsi]`
const XRSTOR64: &[u8] = &[0x48, 0x0f, 0xae, 0x2e];
/// `movdqu [r8], xmm0`
const STORE: &[u8] = &[0xf3, 0x41, 0x0f, 0x7f, 0x00];
/// `hlt`
const HLT: u8 = 0xf4;

/// Where `lock cmpxchg16b` lies.
pub const CMPXCHG16B_AT: Range<u64> = CODE..CODE + CMPXCHG16B.len() as u64;
/// Where `xrstor64` lies.
pub const XRSTOR64_AT: Range<u64> = {
    let start = CMPXCHG16B_AT.end + MASK.len() as u64;
    start..start + XRSTOR64.len() as u64
};
/// The instruction pointer after a good run: behind the final `hlt`.
pub const DONE: u64 = XRSTOR64_AT.end + STORE.len() as u64 + 1;

/// The exception vector whose stub ends at `rip`.
#[must_use]
pub fn vector_halted_at(rip: u64) -> Option<u8> {
    let offset = rip.checked_sub(STUBS + 1)?;
    let vector = offset / STUB_STRIDE;
    (offset.is_multiple_of(STUB_STRIDE) && vector < VECTORS).then_some(vector as u8)
}

/// Whether the processor pushes an error code for this vector (Intel SDM volume 3, table 6-1).
#[must_use]
pub fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// Two little-endian words at a guest address; zeros outside of memory.
#[must_use]
pub fn words(memory: &[Page], address: u64) -> [u64; 2] {
    let byte = |at: u64| {
        usize::try_from(at).ok().and_then(|at| memory.get(at / Page::SIZE)?.0.get(at % Page::SIZE).copied())
    };
    let word = |at: u64| {
        let mut bytes = [0; 8];
        for (offset, place) in (0u64..).zip(bytes.iter_mut()) {
            *place = at.checked_add(offset).and_then(byte).unwrap_or(0);
        }
        u64::from_le_bytes(bytes)
    };
    [word(address), word(address.saturating_add(8))]
}

/// The guest's memory as it starts.
#[must_use]
pub fn memory() -> Vec<Page> {
    let mut code = Vec::new();
    for part in [CMPXCHG16B, MASK, XRSTOR64, STORE, &[HLT]] {
        code.extend_from_slice(part);
    }
    with_code(&code)
}

/// Memory whose code is `code`.
pub fn with_code(code: &[u8]) -> Vec<Page> {
    let mut memory = vec![Page([0; Page::SIZE]); PAGES];
    let mut put = |address: u64, bytes: &[u8]| {
        // All addresses here are constants inside the nine pages, and nothing crosses a page.
        let address = address as usize;
        let at = address % Page::SIZE;
        memory[address / Page::SIZE].0[at..at + bytes.len()].copy_from_slice(bytes);
    };

    // Present and writable; the last level is a 2 MiB page.
    put(PML4, &(PDPT | 0b11).to_le_bytes());
    put(PDPT, &(PD | 0b11).to_le_bytes());
    put(PD, &(1u64 << 7 | 0b11).to_le_bytes());

    // Flat 64-bit code, flat data.
    put(GDT + 8, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    put(GDT + 16, &0x00cf_9300_0000_ffff_u64.to_le_bytes());

    for vector in 0..VECTORS {
        let stub = STUBS + vector * STUB_STRIDE;
        // An interrupt gate through the code selector; the stubs lie below 64 KiB, so the upper offsets are zero.
        let gate = stub | 8 << 16 | 0x8e << 40;
        put(IDT + vector * 16, &gate.to_le_bytes());
        put(stub, &[HLT]);
    }

    put(CODE, code);
    put(OPERAND, &BEFORE[0].to_le_bytes());
    put(OPERAND + 8, &BEFORE[1].to_le_bytes());
    // The reset values of the x87 control word and of MXCSR, xmm0, and the header's list of what is present.
    put(XSAVE_AREA, &0x037f_u16.to_le_bytes());
    put(XSAVE_AREA + 24, &0x1f80_u32.to_le_bytes());
    put(XSAVE_AREA + 160, &XMM0[0].to_le_bytes());
    put(XSAVE_AREA + 168, &XMM0[1].to_le_bytes());
    put(XSAVE_AREA + 512, &XSTATE.to_le_bytes());
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vector_is_told_by_where_its_stub_halts_and_nothing_else_is() {
        for vector in 0..VECTORS {
            assert_eq!(vector_halted_at(STUBS + vector * STUB_STRIDE + 1), Some(vector as u8));
        }
        for elsewhere in [0, CODE + 1, DONE, STUBS, STUBS + 2, STUBS + VECTORS * STUB_STRIDE + 1, u64::MAX] {
            assert_eq!(vector_halted_at(elsewhere), None, "{elsewhere:#x}");
        }
    }

    #[test]
    fn memory_starts_with_the_operand_that_is_compared() {
        assert_eq!(words(&memory(), OPERAND), BEFORE);
        assert_eq!(words(&memory(), RESULT), [0, 0]);
    }

    #[test]
    fn the_final_halt_is_the_last_byte_of_the_code() {
        let at = DONE as usize - 1;
        assert_eq!(memory()[at / Page::SIZE].0[at % Page::SIZE], HLT);
    }

    #[test]
    fn reading_past_the_end_of_memory_gives_zeros() {
        assert_eq!(words(&memory(), (PAGES * Page::SIZE) as u64), [0, 0]);
        assert_eq!(words(&memory(), u64::MAX - 3), [0, 0]);
    }
}
