//! The build id of a program or library: the note by which its debug information is found later.
//!
//! What is read is hostile, so this runs in the helper (`names_helper`). blazesym's reader is not
//! used because it takes any note of the same number, a SystemTap probe for example, for a build id.

use std::fs::File;

use object::elf::{ELF_NOTE_GNU, FileHeader32, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, FileKind, ReadCache};

/// Longer ones are none: a note can claim anything. Linkers make 20 bytes at most.
pub(super) const MAX_BYTES: usize = 64;
/// Larger collections of notes are not read.
const MAX_NOTES: u64 = 1 << 20;

/// The build id; `None` if the file has none, or none that can be read.
pub fn read(file: &File) -> Option<Vec<u8>> {
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok()? {
        FileKind::Elf64 => find::<FileHeader64<Endianness>>(&data),
        FileKind::Elf32 => find::<FileHeader32<Endianness>>(&data),
        _ => None,
    }
}

/// In what is loaded first: a program needs no section headers.
fn find<Elf: FileHeader<Endian = Endianness>>(data: &ReadCache<&File>) -> Option<Vec<u8>> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).unwrap_or_default();
    let small = segments
        .iter()
        .filter(|segment| segment.p_filesz(endian).into() <= MAX_NOTES);
    let mut notes = small.filter_map(|segment| segment.notes(endian, data).ok()?);
    if let Some(found) = notes.find_map(|notes| in_notes(notes, endian)) {
        return usable(found);
    }
    let sections = header.section_headers(endian, data).unwrap_or_default();
    let small = sections
        .iter()
        .filter(|section| section.sh_size(endian).into() <= MAX_NOTES);
    let mut notes = small.filter_map(|section| section.notes(endian, data).ok()?);
    usable(notes.find_map(|notes| in_notes(notes, endian))?)
}

fn in_notes<'data, Elf: FileHeader<Endian = Endianness>>(
    mut notes: NoteIterator<'data, Elf>,
    endian: Endianness,
) -> Option<&'data [u8]> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID {
            return Some(note.desc());
        }
    }
    None
}

fn usable(found: &[u8]) -> Option<Vec<u8>> {
    let fits = !found.is_empty() && found.len() <= MAX_BYTES;
    fits.then(|| found.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_le_bytes();
        let mut note = [length(name), length(desc), kind.to_le_bytes()].concat();
        for part in [name, desc] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// A 64-bit program with one segment, which has the notes and says that it is this long.
    fn program(notes: &[u8], says: u64) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        // e_type, e_machine, e_version; e_entry, e_phoff, e_shoff; e_flags.
        elf.extend([2_u8, 0, 62, 0, 1, 0, 0, 0]);
        elf.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
        elf.extend([0; 4]);
        // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
        elf.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
        // p_type, p_flags; p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
        elf.extend([4_u32, 4].map(u32::to_le_bytes).concat());
        elf.extend([120, 0, 0, says, says, 4].map(u64::to_le_bytes).concat());
        elf.extend_from_slice(notes);
        elf
    }

    fn read_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        read(&file)
    }

    fn of_notes(notes: &[Vec<u8>]) -> Option<Vec<u8>> {
        let notes = notes.concat();
        read_bytes(&program(&notes, notes.len() as u64))
    }

    #[test]
    fn the_note_is_known_by_name_and_number() {
        let id = b"0123456789abcdefghij";
        let others = [
            note(b"stapsdt\0", 3, b"a probe"),
            note(b"GNU\0", 1, b"an ABI"),
        ];
        assert_eq!(of_notes(&others), None);
        let [probe, abi] = others;
        let all = [probe, abi, note(b"GNU\0", 3, id)];
        assert_eq!(of_notes(&all).as_deref(), Some(&id[..]));
    }

    #[test]
    fn what_no_linker_makes_is_none() {
        let long = |length| of_notes(&[note(b"GNU\0", 3, &vec![7; length])]);
        assert_eq!(long(MAX_BYTES), Some(vec![7; MAX_BYTES]));
        assert_eq!(long(MAX_BYTES + 1), None);
        assert_eq!(long(0), None);
        let notes = note(b"GNU\0", 3, b"id");
        let cut = program(&notes, notes.len() as u64);
        for length in 0..cut.len() - 2 {
            assert_eq!(read_bytes(&cut[..length]), None, "{length} bytes");
        }
        for says in [1 << 21, 1 << 40, u64::MAX] {
            assert_eq!(read_bytes(&program(&notes, says)), None);
        }
    }

    #[test]
    fn our_own_is_in_our_file() {
        let bytes = std::fs::read("/proc/self/exe").expect("our own program");
        let found = read(&File::open("/proc/self/exe").expect("our own program"));
        let id = found.expect("linkers make one by default");
        // The note as the linker wrote it.
        let note = note(b"GNU\0", 3, &id);
        assert!(bytes.windows(note.len()).any(|part| part == note));
        assert!(id.len() >= 8, "{id:x?}");
    }
}
