//! The table in which the Go runtime finds the function and line of an instruction, and the calls that
//! were inlined there. It stays in a program whose symbols are stripped.
//!
//! The form is that of runtime/symtab.go, internal/abi/symtab.go and debug/gosym: of Go 1.18 and 1.19
//! (magic `0xfffffff0`), and since Go 1.20 (`0xfffffff1`). All of it is the target's: whatever does not
//! fit is `None`.

use super::build_info::varint;
use super::{long, word};
use crate::process::elf_names::{ElfFrame, MAX_INLINED};

const MAGIC_118: u32 = 0xffff_fff0;
const MAGIC_120: u32 = 0xffff_fff1;
/// `PCDATA_InlTreeIndex`: which call is inlined at an instruction.
const INLINED_AT: usize = 2;
/// `FUNCDATA_InlTree`: the calls that are inlined into a function.
const INLINED: usize = 3;
/// `FuncFlagSPWrite` of internal/abi.
const SP_WRITE: u8 = 1 << 1;
/// In place of an offset: there is none.
const NONE: u32 = u32::MAX;
/// Longer names are cut.
const MAX_NAME: usize = 4096;

/// The form of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Go118,
    Go120,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pclntab<'d> {
    form: Form,
    /// The least distance of two instructions, bytes.
    quantum: u64,
    functions: usize,
    /// Where the code was when the table was written; 0 since Go 1.26.
    pub(super) text: u64,
    names: &'d [u8],
    units: &'d [u8],
    files: &'d [u8],
    values: &'d [u8],
    table: &'d [u8],
}

/// Where the code that a table is about lies, and what it refers to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'d> {
    /// `moduledata.text`.
    pub(super) text: u64,
    /// From `moduledata.gofunc` on: the calls that are inlined; empty if that is not known.
    pub(super) gofunc: &'d [u8],
}

/// A function in it.
struct Function<'d> {
    /// Its first instruction.
    entry: u64,
    name: &'d [u8],
    file: u32,
    line: u32,
    unit: u32,
    /// Table of how far the stack pointer is below where it was at the function's entry; `None` if the function
    /// changes stacks (internal/abi, `FuncFlagSPWrite`).
    sp: Option<u32>,
    /// Table of the calls that are inlined at its instructions; 0 = none.
    inlined_at: u32,
    /// These calls.
    inlined: Option<&'d [u8]>,
}

impl<'d> Pclntab<'d> {
    /// Reads the header; `None` if it is none that is known.
    pub(super) fn new(bytes: &'d [u8]) -> Option<Self> {
        let form = match word(bytes, 0)? {
            MAGIC_118 => Form::Go118,
            MAGIC_120 => Form::Go120,
            _ => return None,
        };
        let &[0, 0, quantum @ (1 | 2 | 4), 8] = bytes.get(4..8)? else {
            return None;
        };
        let field = |index: usize| long(bytes, 8 + 8 * index);
        let part = |index| bytes.get(usize::try_from(field(index)?).ok()?..);
        let pclntab = Self {
            form,
            quantum: u64::from(quantum),
            functions: usize::try_from(field(0)?).ok()?,
            text: field(2)?,
            names: part(3)?,
            units: part(4)?,
            files: part(5)?,
            values: part(6)?,
            table: part(7)?,
        };
        // Its index lies in it.
        let index = pclntab.functions.checked_mul(8)?.checked_add(4)?;
        (pclntab.functions > 0 && index <= pclntab.table.len()).then_some(pclntab)
    }

    /// Where functions of this name are: from their first instruction to the next function. There may be
    /// two, one that calls the other (internal/abi, "ABI0").
    pub(super) fn named(&self, name: &str, text: u64) -> Vec<(u64, u64)> {
        /// There are two; a hostile file can have any number.
        const ENOUGH: usize = 4;
        let place = |index: usize| {
            let entry = word(self.table, index.checked_mul(8)?)?;
            text.checked_add(u64::from(entry))
        };
        let found = (0..self.functions).filter_map(|index| {
            let description = word(self.table, index.checked_mul(8)?.checked_add(4)?)? as usize;
            let start = word(self.table, description.checked_add(4)?)? as usize;
            let rest = self.names.get(start..)?.strip_prefix(name.as_bytes())?;
            let is_it = rest.first() == Some(&0);
            is_it.then_some((place(index)?, place(index.checked_add(1)?)?))
        });
        found.take(ENOUGH).collect()
    }

    /// The frames at an instruction, innermost first; empty if no function is there.
    pub(super) fn frames(&self, place: Place<'d>, at: u64) -> Option<Vec<ElfFrame>> {
        let Some(function) = self.function(place, at)? else {
            return Some(Vec::new());
        };
        let mut frames = Vec::new();
        let mut here = at;
        while let Some((name, parent)) = self.inlined(&function, here) {
            if frames.len() >= MAX_INLINED {
                break;
            }
            frames.push(ElfFrame {
                inlined: true,
                ..self.located(&function, name, here)
            });
            here = function.entry.checked_add(parent)?;
        }
        frames.push(ElfFrame {
            offset: Some(at - function.entry),
            ..self.located(&function, function.name, here)
        });
        Some(frames)
    }

    /// Whether the function has no frame at an instruction, so that it returns to the word at its stack
    /// pointer (of amd64). `None` if no function is there, or the table does not tell.
    pub(super) fn is_frameless(&self, place: Place<'d>, at: u64) -> Option<bool> {
        let function = self.function(place, at)??;
        Some(self.value(function.sp?, function.entry, at)? == 0)
    }

    /// A name with the file and line of an instruction.
    fn located(&self, function: &Function<'d>, name: &[u8], at: u64) -> ElfFrame {
        let value = |table| self.value(table, function.entry, at);
        ElfFrame {
            function: String::from_utf8_lossy(name).into_owned(),
            offset: None,
            file: value(function.file)
                .and_then(|file| self.file(function.unit, file))
                .map(<[u8]>::to_vec),
            line: value(function.line).and_then(|line| u32::try_from(line).ok()),
            inlined: false,
        }
    }

    /// The function that an instruction is of; `Some(None)` if it is of none, `None` if the table is broken.
    fn function(&self, place: Place<'d>, at: u64) -> Option<Option<Function<'d>>> {
        let Some(offset) = at.checked_sub(place.text) else {
            return Some(None);
        };
        let entry_of = |index: usize| word(self.table, index.checked_mul(8)?).map(u64::from);
        // The entry after the last is the end of the last function.
        if offset >= entry_of(self.functions)? {
            return Some(None);
        }
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if entry_of(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(index) = low.checked_sub(1) else {
            return Some(None);
        };
        let start = word(self.table, index * 8 + 4)?;
        let entry = place.text.checked_add(entry_of(index)?)?;
        let description = self.table.get(usize::try_from(start).ok()?..)?;
        self.describe(description, entry, place).map(Some)
    }

    /// `runtime._func`.
    fn describe(&self, bytes: &'d [u8], entry: u64, place: Place<'d>) -> Option<Function<'d>> {
        let field = |index: usize| word(bytes, index.checked_mul(4)?);
        let (counts, tables) = match self.form {
            Form::Go118 => (9, 10),
            Form::Go120 => (10, 11),
        };
        let pcdata = usize::try_from(field(7)?).ok()?;
        // The last byte of four: funcID, flag, padding, nfuncdata.
        let [_, flag, _, funcdata] = field(counts)?.to_le_bytes();
        let inlined_at = if pcdata > INLINED_AT {
            field(tables + INLINED_AT)?
        } else {
            0
        };
        let inlined = if usize::from(funcdata) > INLINED {
            let offset = field(tables.checked_add(pcdata)?.checked_add(INLINED)?)?;
            let offset = (offset != NONE).then_some(offset as usize);
            offset.and_then(|offset| place.gofunc.get(offset..))
        } else {
            None
        };
        Some(Function {
            entry,
            name: text(self.names, field(1)?)?,
            sp: (flag & SP_WRITE == 0).then_some(field(4)?),
            file: field(5)?,
            line: field(6)?,
            unit: field(8)?,
            inlined_at,
            inlined,
        })
    }

    /// The call that is inlined at an instruction: the function called, and how far after the function's
    /// entry there is an instruction of the caller's own. `None` if none is, or if that is not known.
    fn inlined(&self, function: &Function<'d>, at: u64) -> Option<(&'d [u8], u64)> {
        if function.inlined_at == 0 {
            return None;
        }
        let index = self.value(function.inlined_at, function.entry, at)?;
        let index = usize::try_from(index).ok()?;
        let (size, name, parent) = match self.form {
            Form::Go118 => (20, 12, 16),
            Form::Go120 => (16, 4, 8),
        };
        let call = function.inlined?.get(index.checked_mul(size)?..)?;
        let parent = word(call, parent)?;
        Some((text(self.names, word(call, name)?)?, u64::from(parent)))
    }

    /// What a table of values has for an instruction; `None` for -1, which means none, and past its end.
    fn value(&self, table: u32, entry: u64, at: u64) -> Option<i32> {
        let mut rest = self.values.get(table as usize..)?;
        let (mut address, mut value) = (entry, -1_i32);
        let mut first = true;
        loop {
            let (step, behind) = varint(rest)?;
            let step = u32::try_from(step).ok()?;
            if step == 0 && !first {
                return None;
            }
            first = false;
            let change = (step >> 1).cast_signed() ^ -(step & 1).cast_signed();
            value = value.wrapping_add(change);
            let (length, behind) = varint(behind)?;
            address = address.checked_add(length.checked_mul(self.quantum)?)?;
            if at < address {
                return (value >= 0).then_some(value);
            }
            rest = behind;
        }
    }

    /// The name of a file of a compilation unit.
    fn file(&self, unit: u32, file: i32) -> Option<&'d [u8]> {
        let index = (unit as usize).checked_add(usize::try_from(file).ok()?)?;
        let offset = word(self.units, index.checked_mul(4)?)?;
        (offset != NONE).then(|| text(self.files, offset))?
    }
}

/// The text at an offset, to its zero.
fn text(bytes: &[u8], at: u32) -> Option<&[u8]> {
    let rest = bytes.get(at as usize..)?;
    let rest = rest.get(..MAX_NAME).unwrap_or(rest);
    let end = rest.iter().position(|byte| *byte == 0);
    Some(&rest[..end.unwrap_or(rest.len())])
}
