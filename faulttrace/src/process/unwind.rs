//! Functions without a frame of their own, whose caller frame pointers hide: told by the tables for
//! unwinding that programs carry (`.eh_frame`; System V ABI for x86-64 and DWARF for the Arm 64-bit
//! Architecture, DWARF 5 section 6.4). Read in the helper (`names_helper`): all of it is the target's.

use gimli::{
    AArch64, BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EhFrameOffset, LittleEndian,
    RegisterRule, UnwindContext, UnwindSection as _, UnwindTableRow, Vendor, X86_64,
};
use object::elf::{EM_AARCH64, EM_X86_64};
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};

/// Bytes of a return address.
const WORD: i64 = 8;

/// Whether the function at this offset in an ELF file, stopped there, returns to the word at its stack
/// pointer; on arm64, to the address in the register for that. `None` if the file does not tell.
pub fn returns_to_stack_top(file: &[u8], offset: u64) -> Option<bool> {
    let elf = ElfFile64::<object::Endianness>::parse(file).ok()?;
    let endian = elf.endian();
    let (returns, vendor): (fn(&_) -> _, _) = match elf.elf_header().e_machine(endian) {
        EM_X86_64 => (returns_to_word, Vendor::Default),
        EM_AARCH64 => (returns_to_register, Vendor::AArch64),
        _ => return None,
    };
    if !elf.is_little_endian() {
        return None;
    }
    let address = elf.segments().find_map(|segment| {
        let (begin, bytes) = segment.file_range();
        let within = offset.checked_sub(begin).filter(|within| *within < bytes)?;
        segment.address().checked_add(within)
    })?;
    let section = |name| {
        let found = elf.section_by_name(name)?;
        Some((found.address(), found.data().ok()?))
    };
    // The index is what makes this quick; linkers write it unless told not to.
    let (index_at, index) = section(".eh_frame_hdr")?;
    if !is_whole(index)? {
        return None;
    }
    let (frames_at, frames) = section(".eh_frame")?;
    let bases = BaseAddresses::default()
        .set_eh_frame_hdr(index_at)
        .set_eh_frame(frames_at);
    let index = EhFrameHdr::new(index, LittleEndian)
        .parse(&bases, size_of::<u64>().try_into().ok()?)
        .ok()?;
    let entry = index.table()?.lookup(address, &bases).ok()?.direct().ok()?;
    // gimli would do this too, but subtracts without a look (0.34, `pointer_to_offset`).
    let entry = EhFrameOffset(usize::try_from(entry.checked_sub(frames_at)?).ok()?);
    let mut frames = EhFrame::new(frames, LittleEndian);
    // For the instruction that says where return addresses are signed.
    frames.set_vendor(vendor);
    let entry = frames
        .fde_from_offset(&bases, entry, EhFrame::cie_from_offset)
        .ok()?;
    let mut context = UnwindContext::new();
    // Fails if the address is not of this entry.
    let row = entry
        .unwind_info_for_address(&frames, &bases, &mut context, address)
        .ok()?;
    Some(returns(row))
}

/// x86-64: the frame begins right above the word, and the return address lies right below the frame.
fn returns_to_word(row: &UnwindTableRow<usize>) -> bool {
    let begins_above = matches!(
        row.cfa(),
        CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RSP && *offset == WORD
    );
    begins_above && row.register(X86_64::RA) == Some(RegisterRule::Offset(-WORD))
}

/// arm64: nothing has saved the register that a call leaves the return address in. One that has saved it is
/// in the chain of frame pointers, or about to be.
fn returns_to_register(row: &UnwindTableRow<usize>) -> bool {
    matches!(
        row.register(AArch64::X30),
        None | Some(RegisterRule::SameValue)
    )
}

/// Whether an index is of the form that linkers write, and has all its entries (Linux Standard Base, "The
/// .eh_frame_hdr section"). gimli takes any form, but multiplies any count (0.34, `EhHdrTable::lookup`).
fn is_whole(index: &[u8]) -> Option<bool> {
    /// Version 1; the place of `.eh_frame` relative to here, the count, and addresses relative to the
    /// index's, of 32 bits each.
    const FORM: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    const HEAD: usize = 12;
    const ENTRY: usize = 8;
    let count = u32::from_le_bytes(*index.get(8..HEAD)?.first_chunk()?);
    let entries = usize::try_from(count).ok()?.checked_mul(ENTRY)?;
    Some(index.starts_with(&FORM) && entries <= index.len() - HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    mod x86_64 {
        use super::*;
        use std::arch::global_asm;

        // A function that moves its stack pointer, and says so as a compiler would.
        global_asm!(
            ".text",
            ".globl faulttrace_test_frame",
            ".type faulttrace_test_frame, @function",
            "faulttrace_test_frame:",
            ".cfi_startproc",
            "nop",
            "push rax",
            ".cfi_adjust_cfa_offset 8",
            "nop",
            "pop rax",
            ".cfi_adjust_cfa_offset -8",
            "ret",
            ".cfi_endproc",
            ".size faulttrace_test_frame, . - faulttrace_test_frame",
        );

        unsafe extern "C" {
            fn faulttrace_test_frame();
        }

        /// The offset in this program of one of its addresses.
        fn offset_of(address: u64) -> u64 {
            let maps = std::fs::read("/proc/self/maps").expect("maps");
            let (mappings, _) = crate::process::maps::parse(&maps);
            let mut mappings = mappings.iter();
            let mapping = mappings.find(|mapping| mapping.range.contains(&address));
            mapping.expect("mapped").offset_of(address)
        }

        #[test]
        fn a_frame_is_there_from_the_push_to_the_pop() {
            let own = std::fs::read("/proc/self/exe").expect("our own program");
            let begin = offset_of(faulttrace_test_frame as *const () as u64);
            let at = |offset| returns_to_stack_top(&own, begin + offset);
            // nop, push, nop, pop, ret
            let told = [at(0), at(1), at(2), at(3), at(4)];
            assert_eq!(told, [true, true, false, false, true].map(Some));
        }
    }

    #[test]
    fn on_arm64_a_frame_is_there_while_the_return_address_is_saved() {
        const FILE: &[u8] = include_bytes!("unwind/aarch64.so");
        // Where the file has its functions; each instruction is 4 bytes.
        let at = |function, instructions: std::ops::Range<u64>| {
            let told = instructions.map(|index| returns_to_stack_top(FILE, function + index * 4));
            told.collect::<Vec<_>>()
        };
        let (without_frame, with_frame, outermost, signed) = (0x22c, 0x240, 0x254, 0x258);
        assert_eq!(at(without_frame, 0..5), [Some(true); 5]);
        let told = [true, true, false, false, true].map(Some);
        assert_eq!(at(with_frame, 0..5), told);
        assert_eq!(at(outermost, 0..1), [Some(false)]);
        // paciasp, nop, stp, ldp, autiasp, ret
        let told = [true, true, true, false, true, true].map(Some);
        assert_eq!(at(signed, 0..6), told);
    }

    #[test]
    fn what_is_no_code_or_no_program_is_not_told() {
        let own = std::fs::read("/proc/self/exe").expect("our own program");
        assert_eq!(returns_to_stack_top(&own, u64::MAX), None);
        assert_eq!(returns_to_stack_top(&own, 0), None);
        assert_eq!(returns_to_stack_top(b"", 0), None);
        for cut in [64, 1 << 12, own.len() / 2] {
            returns_to_stack_top(&own[..cut], 0x1000);
        }
    }
}
