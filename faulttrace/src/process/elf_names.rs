//! Names of places in programs and libraries: by Go's own table where there is one, else by blazesym.
//!
//! What it reads is hostile: a file made for it can exhaust memory or stack, or vanish while it is
//! mapped, and each of these ends the process. So the tracer has it done by another process
//! (`names_helper`); this is what runs there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::build_id;
use super::elf_files::FileNumber;
use super::go::GoProgram;
use super::go::runtime::GoRuntime;
use super::unwind;

/// More calls inlined into one place are left out.
pub(super) const MAX_INLINED: usize = 64;

/// A function, or a call inlined into the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ElfFrame {
    pub(super) function: String,
    pub(super) offset: Option<u64>,
    pub(super) file: Option<Vec<u8>>,
    pub(super) line: Option<u32>,
    pub(super) inlined: bool,
}

/// Nobody could be asked. No file is to blame, and it may be asked again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotNow;

/// What is said of a file, which may be nothing.
pub(super) type Answer<T> = Result<Option<T>, NotNow>;

/// Whoever knows the names in files.
pub(super) trait Names: Send {
    /// The frames at an offset in a file, innermost first; empty if it has no name there, `None` if
    /// it cannot be read. A file always comes with the same number, and no other with that.
    fn look_up(&mut self, number: FileNumber, file: &File, offset: u64) -> Answer<Vec<ElfFrame>>;
    /// Whether the function at an offset in a file, stopped there, returns to the word at its stack pointer:
    /// then frame pointers do not lead to its caller. `None` if that is not known.
    fn hides_caller(&mut self, number: FileNumber, file: &File, offset: u64) -> Answer<bool>;
    /// The build id of a file; `None` if it has none, or none that can be read.
    fn build_id(&mut self, number: FileNumber, file: &File) -> Answer<Vec<u8>>;
    /// The Go runtime of a file; `None` if it has none. An error: that could not be found out.
    fn go_runtime(&mut self, file: &File) -> io::Result<Option<GoRuntime>>;
}

/// Reads the files itself.
pub(super) struct Reader {
    symbols: Symbolizer,
    /// By the descriptor; `None` for those that are not Go's.
    go: HashMap<RawFd, Option<GoProgram>>,
    /// Others, by the descriptor.
    mapped: HashMap<RawFd, Mmap>,
}

impl Default for Reader {
    fn default() -> Self {
        // A descriptor of ours always means the same file, so there is nothing to reload.
        Self {
            symbols: Symbolizer::builder()
                .enable_auto_reload(false)
                .enable_code_info(true)
                .enable_inlined_fns(true)
                .enable_demangling(true)
                .build(),
            go: HashMap::new(),
            mapped: HashMap::new(),
        }
    }
}

impl Reader {
    /// As [`Names::look_up`], with or without debug information. The file must stay open under its
    /// descriptor.
    pub(super) fn look_up(
        &mut self,
        file: &File,
        offset: u64,
        debug: bool,
    ) -> Option<Vec<ElfFrame>> {
        // Whether or not it is stripped: the same names, and much less to read than debug information.
        if let Some(frames) = self.in_go(file, offset) {
            return Some(frames);
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let input = || Input::FileOffset(offset);
        let mut found = if debug {
            self.symbols
                .symbolize_single(&Source::Elf(Elf::new(&path)), input())
        } else {
            self.symbols.symbolize_single(&table_of(&path), input())
        };
        if debug && found.is_err() {
            // Separate debug information may not fit; the symbol table still does.
            found = self.symbols.symbolize_single(&table_of(&path), input());
        }
        match found {
            Ok(Symbolized::Sym(sym)) => {
                let mut frames = frames_of(&sym);
                if debug
                    && let Some(function) = frames.last_mut()
                    && let Some(name) = self.qualified(&path, offset, &sym.name)
                {
                    function.function = name;
                }
                Some(frames)
            }
            Ok(Symbolized::Unknown(_)) => Some(Vec::new()),
            Err(_) => None,
        }
    }

    /// As [`Names::hides_caller`].
    pub(super) fn hides_caller(&mut self, file: &File, offset: u64) -> Option<bool> {
        let in_go = self.go(file).map(|go| go.returns_to_stack_top(offset));
        in_go.flatten().or_else(|| {
            let bytes = match self.mapped.entry(file.as_raw_fd()) {
                Entry::Occupied(known) => known.into_mut(),
                // SAFETY: as for `GoProgram`: the file may change under us, which this process is there for.
                Entry::Vacant(new) => new.insert(unsafe { Mmap::map(file) }.ok()?),
            };
            unwind::returns_to_stack_top(bytes, offset)
        })
    }

    /// `None` if no Go function is there.
    fn in_go(&mut self, file: &File, offset: u64) -> Option<Vec<ElfFrame>> {
        let frames = self.go(file)?.frames(offset)?;
        (!frames.is_empty()).then_some(frames)
    }

    /// `None` if it is none of Go's.
    fn go(&mut self, file: &File) -> Option<&GoProgram> {
        let program = self.go.entry(file.as_raw_fd());
        program.or_insert_with(|| GoProgram::open(file)).as_ref()
    }

    /// The name in the symbol table, if it is the same with its module or class: debug information
    /// of the smaller kinds has bare names.
    fn qualified(&self, path: &Path, offset: u64, bare: &str) -> Option<String> {
        let found = self
            .symbols
            .symbolize_single(&table_of(path), Input::FileOffset(offset))
            .ok()?;
        let name = found.as_sym()?.name.as_ref();
        let without_parameters = |name: &str| name.find(['<', '(']).unwrap_or(name.len());
        let bare = bare.get(..without_parameters(bare))?;
        let (_, last) = name.split_at(name.rfind("::")? + 2);
        let is_it = last.get(..without_parameters(last)) == Some(bare);
        is_it.then(|| name.to_owned())
    }
}

/// The symbol table alone.
fn table_of(path: &Path) -> Source<'static> {
    let mut table = Elf::new(path);
    table.debug_syms = false;
    Source::Elf(table)
}

/// Innermost first: inlined calls before the function they are in.
fn frames_of(sym: &Sym<'_>) -> Vec<ElfFrame> {
    let located = |name: &str, code: Option<&CodeInfo<'_>>| ElfFrame {
        function: name.to_owned(),
        offset: None,
        file: code.map(|code| code.to_path().as_os_str().as_encoded_bytes().to_vec()),
        line: code.and_then(|code| code.line),
        inlined: false,
    };
    let inlined = sym.inlined.iter().rev().take(MAX_INLINED);
    let inlined = inlined.map(|call| ElfFrame {
        inlined: true,
        ..located(&call.name, call.code_info.as_ref())
    });
    let function = ElfFrame {
        offset: u64::try_from(sym.offset).ok(),
        ..located(&sym.name, sym.code_info.as_deref())
    };
    inlined.chain([function]).collect()
}

/// For tests: no other process.
#[cfg(test)]
#[derive(Default)]
pub(super) struct InProcess(Vec<File>);

#[cfg(test)]
impl Names for InProcess {
    fn look_up(&mut self, _: FileNumber, file: &File, offset: u64) -> Answer<Vec<ElfFrame>> {
        self.0.push(file.try_clone().map_err(|_| NotNow)?);
        Ok(Reader::default().look_up(file, offset, true))
    }

    fn hides_caller(&mut self, _: FileNumber, file: &File, offset: u64) -> Answer<bool> {
        Ok(Reader::default().hides_caller(file, offset))
    }

    fn build_id(&mut self, _: FileNumber, file: &File) -> Answer<Vec<u8>> {
        Ok(build_id::read(file))
    }

    fn go_runtime(&mut self, file: &File) -> io::Result<Option<GoRuntime>> {
        GoRuntime::of_file(file)
    }
}
