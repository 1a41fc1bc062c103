//! Go programs, which bring along what their runtime needs to know of their code. Read in the helper
//! (`names_helper`): all of it is the target's.

pub(super) mod build_info;
mod code;
mod dwarf;
mod image;
pub(crate) mod layout;
mod pclntab;
pub(crate) mod runtime;
#[cfg(test)]
mod runtime_tests;
#[cfg(test)]
mod tests;

use std::fs::File;

use memmap2::Mmap;

use super::elf_names::ElfFrame;
use image::{Image, Section};
use pclntab::{Pclntab, Place};
use runtime::GoRuntime;

/// Where the table is. Linkers of C put it with others in position-independent programs.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Where `moduledata` is, since Go 1.26.
const MODULE: [&str; 1] = [".go.module"];
/// `moduledata.text`, from Go 1.18 to 1.27 at least.
const TEXT: u64 = 176;

/// The functions of a Go program.
pub(super) struct GoProgram {
    file: Mmap,
    parts: Parts,
}

/// Where what is needed lies, by addresses.
struct Parts {
    /// The table.
    table: u64,
    /// The code that it is about.
    text: u64,
    /// `moduledata.gofunc`; `None` where it is not known.
    gofunc: Option<u64>,
}

impl GoProgram {
    /// `None` if it is none, or of a version whose table is not known.
    pub(super) fn open(file: &File) -> Option<Self> {
        // SAFETY: the file may be cut or written to while it is mapped. Then this process dies, or reads
        // something else: it is the helper, which is there for that; nothing is kept by reference.
        let file = unsafe { Mmap::map(file) }.ok()?;
        let parts = Parts::of(&file)?;
        Some(Self { file, parts })
    }

    /// The frames at an offset in the file, innermost first; empty if it is of no Go function, `None` if
    /// the table is broken.
    pub(super) fn frames(&self, offset: u64) -> Option<Vec<ElfFrame>> {
        self.parts.frames(&self.file, offset)
    }

    /// Whether the function at an offset returns to the word at its stack pointer; `None` if it is of no Go
    /// function, or not known.
    pub(super) fn returns_to_stack_top(&self, offset: u64) -> Option<bool> {
        self.parts
            .look(&self.file, offset, |image, pclntab, place, at| {
                // Elsewhere the return address is in a register.
                image.is_x86_64().then(|| pclntab.is_frameless(place, at))?
            })?
    }
}

impl Parts {
    fn of(file: &[u8]) -> Option<Self> {
        let image = Image::new(file)?;
        // Go puts this into every program since 1.13.
        image.section(&[".go.buildinfo"])?;
        let table = find_table(&image)?;
        let pclntab = Pclntab::new(table.bytes)?;
        let module = find_module(&image, table.address);
        let text = match module {
            Some(module) => image.pointer(module.checked_add(TEXT)?)?,
            None => Some(pclntab.text).filter(|text| *text != 0)?,
        };
        Some(Self {
            table: table.address,
            text,
            gofunc: find_gofunc(&image, module),
        })
    }

    fn frames(&self, file: &[u8], offset: u64) -> Option<Vec<ElfFrame>> {
        let frames = self.look(file, offset, |_, pclntab, place, at| {
            pclntab.frames(place, at)
        });
        frames.unwrap_or_else(|| Some(Vec::new()))
    }

    /// What the table has for the instruction at an offset. `None` if there is no address for it, or no table.
    fn look<T>(
        &self,
        file: &[u8],
        offset: u64,
        what: impl for<'d> FnOnce(&Image<'d>, &Pclntab<'d>, Place<'d>, u64) -> T,
    ) -> Option<T> {
        let image = Image::new(file)?;
        let pclntab = Pclntab::new(image.from(self.table)?)?;
        let gofunc = self.gofunc.and_then(|at| image.from(at));
        let place = Place {
            text: self.text,
            gofunc: gofunc.unwrap_or_default(),
        };
        let at = image.address_of(offset)?;
        Some(what(&image, &pclntab, place, at))
    }
}

/// How much is known of the bytes of a program: of its runtime, and the frames at its first offsets. For
/// fuzzing.
pub fn understood(file: &[u8]) -> usize {
    const OFFSETS: u64 = 512;
    let runtime = GoRuntime::read(file);
    let has_layout = runtime.is_some_and(|runtime| runtime.layout.is_some());
    usize::from(has_layout) + frames_understood(file, OFFSETS)
}

fn frames_understood(file: &[u8], offsets: u64) -> usize {
    let Some(parts) = Parts::of(file) else {
        return 0;
    };
    let frames = |offset| parts.frames(file, offset).map_or(0, |frames| frames.len());
    (0..offsets).map(frames).sum()
}

/// The table, by its section or else by how it begins.
fn find_table<'d>(image: &Image<'d>) -> Option<Section<'d>> {
    if let Some(section) = image.section(&SECTIONS) {
        return Some(section);
    }
    image.loaded().find_map(|loaded| {
        let places = (0..loaded.bytes.len()).step_by(8);
        let mut tables = places.filter_map(|at| {
            let bytes = loaded.bytes.get(at..)?;
            // A look at the magic, before all of it is judged.
            let magic = bytes.get(1..6)? == [0xff, 0xff, 0xff, 0, 0];
            (magic && Pclntab::new(bytes).is_some()).then_some(Section {
                address: loaded.address.checked_add(at as u64)?,
                bytes,
            })
        });
        tables.next()
    })
}

/// `runtime.firstmoduledata`, which begins with a pointer to the table.
fn find_module(image: &Image<'_>, table: u64) -> Option<u64> {
    let is_module = |at: &u64| image.pointer(*at) == Some(table);
    let section = image.section(&MODULE).map(|section| section.address);
    section.filter(is_module).or_else(|| {
        // Others may point to the table as well; the module points to the code, too.
        let is_code = |at: &u64| {
            let text = at.checked_add(TEXT).and_then(|at| image.pointer(at));
            text.is_some_and(|text| text != 0 && image.from(text).is_some())
        };
        image.pointers_to(table).into_iter().find(is_code)
    })
}

/// `go:func.*`, to which the offsets of inlined calls are relative.
fn find_gofunc(image: &Image<'_>, module: Option<u64>) -> Option<u64> {
    let version = build_info::version(image)?;
    // Offsets as DWARF of 1.19 and 1.21 to 1.27 has them. In between, runtime/symtab.go got two members
    // more with coverage in 1.20, and three in 1.27.
    let offset = match build_info::numbers(&version)? {
        (1, 18..=19) => 304,
        (1, 20..=26) => 320,
        (1, 27) => 344,
        _ => return None,
    };
    image.pointer(module?.checked_add(offset)?)
}

/// The number of 32 bits that is there.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The number of 64 bits that is there.
fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
