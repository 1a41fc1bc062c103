//! A program or library as its loader sees it: bytes and pointers by the addresses that the linker gave.

use object::elf::{EM_X86_64, PF_W, PF_X, PT_LOAD, R_AARCH64_RELATIVE, R_X86_64_RELATIVE, Rela64};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{CompressedData, Endianness, Object as _, ObjectSection as _, ObjectSymbol};

use super::long;

/// The pointer is the addend.
const RELATIVE: [u32; 2] = [R_X86_64_RELATIVE, R_AARCH64_RELATIVE];

/// An ELF file, 64 bits, little-endian: what Go has on the platforms that faulttrace runs on.
pub(super) struct Image<'d> {
    elf: ElfFile64<'d, Endianness>,
    segments: Vec<Segment<'d>>,
    /// The relocations of position-independent programs, which hold their pointers.
    relocations: Vec<&'d [Rela64<Endianness>]>,
}

struct Segment<'d> {
    address: u64,
    offset: u64,
    bytes: &'d [u8],
    /// Bytes in memory: with those that begin as zero, which the file does not have.
    memory_bytes: u64,
    writable: bool,
    executable: bool,
}

impl Segment<'_> {
    fn holds(&self, address: u64, bytes: u64) -> bool {
        let end = address
            .checked_sub(self.address)
            .and_then(|within| within.checked_add(bytes));
        end.is_some_and(|end| end <= self.memory_bytes)
    }
}

/// A section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'d> {
    pub(super) address: u64,
    pub(super) bytes: &'d [u8],
}

impl<'d> Image<'d> {
    /// `None` for a file of another kind, or a broken one.
    pub(super) fn new(file: &'d [u8]) -> Option<Self> {
        let elf = ElfFile64::<Endianness>::parse(file).ok()?;
        if !elf.is_little_endian() {
            return None;
        }
        let endian = elf.endian();
        let segments = elf
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(endian) == PT_LOAD)
            .filter_map(|header| {
                Some(Segment {
                    address: header.p_vaddr(endian),
                    offset: header.p_offset(endian),
                    bytes: header.data(endian, file).ok()?,
                    memory_bytes: header.p_memsz(endian),
                    writable: header.p_flags(endian) & PF_W != 0,
                    executable: header.p_flags(endian) & PF_X != 0,
                })
            })
            .collect();
        let relocations = elf
            .elf_section_table()
            .iter()
            .filter_map(|section| section.rela(endian, file).ok()?)
            .map(|(relocations, _)| relocations)
            .collect();
        Some(Self {
            elf,
            segments,
            relocations,
        })
    }

    /// The first section of one of these names.
    pub(super) fn section(&self, names: &[&str]) -> Option<Section<'d>> {
        let found = names.iter().find_map(|name| self.elf.section_by_name(name));
        found.and_then(|section| {
            Some(Section {
                address: section.address(),
                bytes: section.data().ok()?,
            })
        })
    }

    /// What a section has in the file, maybe compressed.
    pub(super) fn compressed(&self, name: &str) -> Option<CompressedData<'d>> {
        self.elf.section_by_name(name)?.compressed_data().ok()
    }

    /// Whether its code is of x86-64.
    pub(super) fn is_x86_64(&self) -> bool {
        let header = self.elf.elf_header();
        header.e_machine(self.elf.endian()) == EM_X86_64
    }

    /// The addresses of these, by the symbol table. Goes through all of it.
    pub(super) fn symbols<const N: usize>(&self, names: [&str; N]) -> [Option<u64>; N] {
        let mut found = [None; N];
        for symbol in self.elf.symbols().filter(ObjectSymbol::is_definition) {
            let Ok(name) = symbol.name_bytes() else {
                continue;
            };
            let wanted = names.iter().zip(&mut found);
            for (_, place) in wanted.filter(|(wanted, _)| wanted.as_bytes() == name) {
                *place = Some(symbol.address());
            }
        }
        found
    }

    /// The address and the offset in the file of what is loaded with this code; `None` if it is not code.
    pub(super) fn code_segment(&self, address: u64) -> Option<(u64, u64)> {
        let mut code = self.segments.iter().filter(|segment| segment.executable);
        let found = code.find(|segment| segment.holds(address, 1))?;
        Some((found.address, found.offset))
    }

    /// Whether these bytes are loaded and can be written to: variables.
    pub(super) fn is_data(&self, address: u64, bytes: u64) -> bool {
        let mut data = self.segments.iter().filter(|segment| segment.writable);
        data.any(|segment| segment.holds(address, bytes))
    }

    /// Everything that is loaded: first what cannot be written to, then the rest.
    pub(super) fn loaded(&self) -> impl Iterator<Item = Section<'d>> + '_ {
        let these = |writable| {
            let segments = self.segments.iter();
            segments.filter(move |segment| segment.writable == writable)
        };
        these(false).chain(these(true)).map(|segment| Section {
            address: segment.address,
            bytes: segment.bytes,
        })
    }

    /// The address of an offset in the file.
    pub(super) fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = offset.checked_sub(segment.offset)?;
            (within < segment.bytes.len() as u64).then(|| segment.address.wrapping_add(within))
        })
    }

    /// What lies from an address on, to the end of what is loaded there.
    pub(super) fn from(&self, address: u64) -> Option<&'d [u8]> {
        self.segments.iter().find_map(|segment| {
            let within = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            segment.bytes.get(within..).filter(|rest| !rest.is_empty())
        })
    }

    /// The pointer at an address. Goes through all relocations: for a few pointers of each file only.
    pub(super) fn pointer(&self, at: u64) -> Option<u64> {
        let relocated = self.relative().find(|(place, _)| *place == at);
        match relocated {
            Some((_, addend)) => Some(addend),
            None => long(self.from(at)?, 0),
        }
    }

    /// Where there are pointers to this address: in relocations if there are some, else in writable data.
    pub(super) fn pointers_to(&self, address: u64) -> Vec<u64> {
        /// There is one; a hostile file can have any number.
        const ENOUGH: usize = 16;
        let relocated: Vec<u64> = self
            .relative()
            .filter(|(_, addend)| *addend == address)
            .map(|(place, _)| place)
            .take(ENOUGH)
            .collect();
        if !relocated.is_empty() {
            return relocated;
        }
        let word = address.to_le_bytes();
        let writable = self.segments.iter().filter(|segment| segment.writable);
        let places = writable.flat_map(|segment| {
            let words = segment.bytes.chunks_exact(8).enumerate();
            let found = words.filter(|(_, bytes)| *bytes == word);
            found.map(|(index, _)| segment.address.wrapping_add(8 * index as u64))
        });
        places.take(ENOUGH).collect()
    }

    /// Relocations that are pointers into the file itself: where, and to which address.
    fn relative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let endian = self.elf.endian();
        let all = self.relocations.iter().copied().flatten();
        all.filter(move |one| RELATIVE.contains(&one.r_type(endian, false)))
            .map(move |one| {
                let addend = one.r_addend.get(endian);
                (one.r_offset.get(endian), addend.cast_unsigned())
            })
    }
}
