//! Offsets of the runtime's structures, by the debug information.
//!
//! Go's linker puts the types of all packages into one of the units of package runtime, with their names
//! in place (cmd/link/internal/ld/dwarf.go), so no other unit is understood and none is kept.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::ZlibDecoder;
use gimli::{
    Abbreviation, AttributeValue, DebugAbbrev, DebugInfo, DwAt, EndianSlice, EntriesRaw,
    LittleEndian, UnitHeader, constants as dw,
};
use object::{CompressedData, CompressionFormat};

use super::image::Image;
use super::layout::Structures;

/// Most that is decompressed.
const MAX_INFO_BYTES: u64 = 512 << 20;
/// Most that the table of forms may have; Go's has some hundred bytes.
const MAX_ABBREV_BYTES: u64 = 1 << 20;
/// The name of the unit stands this near to its start.
const HEAD: usize = 128;
/// Units of package runtime that are understood: there are about ten, one for each assembly file.
const MAX_UNITS: usize = 64;
/// The structures that are asked for.
const STRUCTURES: [&str; 5] = ["g", "m", "p", "schedt", "gQueue"];

type Bytes<'d> = EndianSlice<'d, LittleEndian>;
type Members = HashMap<(&'static str, Vec<u8>), u32>;

/// What it says; `None` if there is none, or not all of it.
pub(super) fn structures(image: &Image<'_>) -> Option<Structures> {
    let section = |names: [&str; 2], limit| {
        let found = names.iter().find_map(|name| image.compressed(name))?;
        Some(plain(found)?.take(limit))
    };
    let mut info = section([".debug_info", ".zdebug_info"], MAX_INFO_BYTES)?;
    let mut abbrev = Vec::new();
    section([".debug_abbrev", ".zdebug_abbrev"], MAX_ABBREV_BYTES)?
        .read_to_end(&mut abbrev)
        .ok()?;
    let mut unit = Vec::new();
    let mut tried = 0;
    while tried < MAX_UNITS && next_unit(&mut info, &mut unit)? {
        let head = unit.get(..HEAD).unwrap_or(&unit);
        if head.windows(8).any(|bytes| bytes == b"runtime\0") {
            tried += 1;
            let found = members(&unit, &abbrev).and_then(|members| of_members(&members));
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

fn of_members(members: &Members) -> Option<Structures> {
    Structures::from_members(|structure, member| {
        let structure = STRUCTURES.iter().find(|one| **one == structure)?;
        let member = (*structure, member.as_bytes().to_vec());
        members.get(&member).copied()
    })
}

fn plain<'d>(section: CompressedData<'d>) -> Option<Box<dyn Read + 'd>> {
    match section.format {
        CompressionFormat::None => Some(Box::new(section.data)),
        CompressionFormat::Zlib => Some(Box::new(ZlibDecoder::new(section.data))),
        _ => None,
    }
}

/// Reads a unit with its length; false at the end.
fn next_unit(info: &mut impl Read, unit: &mut Vec<u8>) -> Option<bool> {
    /// What stands for a length of 64 bits, which follows.
    const LONG: u32 = u32::MAX;
    unit.clear();
    let mut read = |unit: &mut Vec<u8>, bytes: u64| {
        let got = info.by_ref().take(bytes).read_to_end(unit).ok()?;
        Some(got as u64 == bytes)
    };
    if !read(unit, 4)? {
        return Some(false);
    }
    let short = super::word(unit, 0)?;
    let length = if short == LONG {
        read(unit, 8)?;
        super::long(unit, 4)?
    } else {
        u64::from(short)
    };
    read(unit, length)
}

/// The members of the structures in a unit; `None` if it is of another package.
fn members(unit: &[u8], abbrev: &[u8]) -> Option<Members> {
    let info = DebugInfo::new(unit, LittleEndian);
    let header: UnitHeader<Bytes<'_>> = info.units().next().ok()??;
    let abbrev = DebugAbbrev::new(abbrev, LittleEndian);
    let abbreviations = header.abbreviations(&abbrev).ok()?;
    let mut entries = header.entries_raw(&abbreviations, None).ok()?;
    let root = entries.read_abbreviation().ok()??;
    if !is_runtime(&mut entries, root)? {
        return None;
    }
    let mut members = Members::new();
    // The structure that the members are of, which are one deeper.
    let mut within = None;
    while !entries.is_empty() {
        let depth = entries.next_depth();
        let Some(entry) = entries.read_abbreviation().ok()? else {
            continue;
        };
        match (entry.tag(), within) {
            (dw::DW_TAG_structure_type, _) => {
                let [name] = attributes(&mut entries, entry, [dw::DW_AT_name])?;
                within = name.and_then(structure).map(|name| (name, depth + 1));
            }
            (dw::DW_TAG_member, Some((structure, inside))) if inside == depth => {
                let wanted = [dw::DW_AT_name, dw::DW_AT_data_member_location];
                let [name, offset] = attributes(&mut entries, entry, wanted)?;
                let name = name.and_then(text).map(<[u8]>::to_vec);
                let offset = offset.and_then(|one| u32::try_from(one.udata_value()?).ok());
                members.extend(name.zip(offset).map(|(name, at)| ((structure, name), at)));
            }
            _ => entries.skip_attributes(entry.attributes()).ok()?,
        }
    }
    Some(members)
}

fn is_runtime(entries: &mut EntriesRaw<'_, Bytes<'_>>, root: &Abbreviation) -> Option<bool> {
    let [name, language] = attributes(entries, root, [dw::DW_AT_name, dw::DW_AT_language])?;
    let is_go = matches!(language, Some(AttributeValue::Language(dw::DW_LANG_Go)));
    Some(is_go && name.and_then(text) == Some(b"runtime"))
}

/// Which of the structures this is, by its name with the package.
fn structure(name: AttributeValue<Bytes<'_>>) -> Option<&'static str> {
    let name = text(name)?.strip_prefix(b"runtime.")?;
    let known = STRUCTURES.iter().find(|one| one.as_bytes() == name);
    known.copied()
}

/// A name that stands in its place.
fn text<'d>(value: AttributeValue<Bytes<'d>>) -> Option<&'d [u8]> {
    match value {
        AttributeValue::String(text) => Some(text.slice()),
        _ => None,
    }
}

/// Reads all attributes of an entry and keeps some; `None` if they are broken.
fn attributes<'d, const N: usize>(
    entries: &mut EntriesRaw<'_, Bytes<'d>>,
    entry: &Abbreviation,
    wanted: [DwAt; N],
) -> Option<[Option<AttributeValue<Bytes<'d>>>; N]> {
    let mut found = [const { None }; N];
    for specification in entry.attributes() {
        let attribute = entries.read_attribute(*specification).ok()?;
        let places = wanted.iter().zip(&mut found);
        for (_, place) in places.filter(|(name, _)| **name == attribute.name()) {
            *place = Some(attribute.value());
        }
    }
    Some(found)
}
