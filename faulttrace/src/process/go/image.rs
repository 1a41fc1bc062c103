//! A program or library as its loader sees it: bytes and pointers by the addresses that the linker gave.

use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _};

/// `R_X86_64_RELATIVE` and `R_AARCH64_RELATIVE`: the pointer is the addend.
const RELATIVE: [u32; 2] = [8, 1027];
/// Bytes of an `Elf64_Rela`.
const RELA_BYTES: usize = 24;

/// An ELF file, 64 bits, little-endian: what Go has on the platforms that faulttrace runs on.
pub(super) struct Image<'d> {
    elf: ElfFile64<'d, Endianness>,
    segments: Vec<Segment<'d>>,
    /// The relocations of position-independent programs, which hold their pointers.
    relocations: &'d [u8],
}

struct Segment<'d> {
    address: u64,
    offset: u64,
    bytes: &'d [u8],
    writable: bool,
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
            .filter(|header| header.p_type(endian) == object::elf::PT_LOAD)
            .filter_map(|header| {
                Some(Segment {
                    address: header.p_vaddr(endian),
                    offset: header.p_offset(endian),
                    bytes: header.data(endian, file).ok()?,
                    writable: header.p_flags(endian) & object::elf::PF_W != 0,
                })
            })
            .collect();
        let relocations = elf
            .section_by_name(".rela.dyn")
            .or_else(|| elf.section_by_name(".rela"))
            .and_then(|section| section.data().ok())
            .unwrap_or_default();
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
            None => Some(u64::from_le_bytes(*self.from(at)?.first_chunk()?)),
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
        let entries = self.relocations.chunks_exact(RELA_BYTES);
        entries.filter_map(|entry| {
            let word = |at: usize| {
                let bytes = entry.get(at..)?.first_chunk()?;
                Some(u64::from_le_bytes(*bytes))
            };
            // The low half of the second tells the kind.
            let kind = u32::from_le_bytes(*entry.get(8..)?.first_chunk()?);
            let is_relative = RELATIVE.contains(&kind);
            is_relative.then_some((word(0)?, word(16)?))
        })
    }
}
