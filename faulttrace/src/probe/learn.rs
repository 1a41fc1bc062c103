//! A fault of our own on a file, for the programs to learn from.

use std::fs::File;
use std::io;

use memmap2::MmapOptions;

/// Takes one fault that passes through the fault handler of files: the programs learn from it where
/// on the stack the kernel keeps what it handles. Writing to a private mapping does so even if the
/// page is in memory, where reading would only map it along with its neighbours (mm/memory.c,
/// do_read_fault).
pub(super) fn fault_on_a_file() -> io::Result<()> {
    let file = File::open("/proc/self/exe")?;
    // SAFETY: a private mapping of one page, of a file that is being executed and so cannot be
    // truncated or written to.
    let mut page = unsafe { MmapOptions::new().len(1).map_copy(&file) }?;
    page[0] = std::hint::black_box(1);
    std::hint::black_box(&page);
    Ok(())
}
