//! What a file tells of the Go runtime in it: where a tracer finds the goroutines of its threads.

use std::fs::File;
use std::io;

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::code::Machine;
use super::image::Image;
use super::layout::{Offsets, Structures};
use super::pclntab::Pclntab;
use super::{TEXT, build_info, dwarf, find_module, find_table};
use crate::model::LayoutSource;

/// `moduledata.etext`, from Go 1.18 to 1.27 at least.
const TEXT_END: u64 = TEXT + 8;
/// Thread-local storage of a program is no larger.
const MAX_TLS_BYTES: u64 = 1 << 30;

/// The Go runtime of a program or library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoRuntime {
    /// As the build information has it: `go1.27.3`.
    pub(crate) version: String,
    /// The path of the main module, or of the main package where that is of no module.
    pub(crate) module: Option<String>,
    /// `None` for a version that is not known and has no debug information, and for an architecture other
    /// than x86-64.
    pub(crate) layout: Option<Layout>,
}

/// Where the runtime keeps things. Addresses are as the linker gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) offsets: Offsets,
    pub(crate) source: LayoutSource,
    /// The code that Go compiled: from here, to before there.
    pub(crate) text: (u64, u64),
    /// Where the current goroutine (`g`) is, bytes from the thread pointer; `None` where the loader
    /// decides: in a library.
    pub(crate) tls_g: Option<i64>,
    /// `runtime.gomaxprocs`, 32 bits.
    pub(crate) gomaxprocs: Option<u64>,
    /// The number of goroutines in the global run queue, 32 bits: `runtime.sched.runqsize`, since Go 1.25
    /// `runtime.sched.runq.size`.
    pub(crate) runq_size: Option<u64>,
    /// Address and offset in the file of the loaded segment with the code. A mapping of it, from `start` and
    /// from `offset` in the file, tells how far everything has been moved: by
    /// `start - offset + code_segment.1 - code_segment.0`.
    pub(crate) code_segment: (u64, u64),
}

impl GoRuntime {
    /// `None` if it is no Go program, or one of before Go 1.18. An error if it cannot be read.
    pub(crate) fn of_file(file: &File) -> io::Result<Option<Self>> {
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        // SAFETY: the file may be cut or written to while it is mapped. Then this process dies, or reads
        // something else: it is the helper, which is there for that; nothing is kept by reference.
        let file = unsafe { Mmap::map(file) }?;
        Ok(Self::read(&file))
    }

    /// The same from its bytes.
    pub(crate) fn read(file: &[u8]) -> Option<Self> {
        let image = Image::new(file)?;
        let version = build_info::version(&image)?;
        Some(Self {
            module: build_info::module(&image),
            layout: Layout::of(&image, &version),
            version,
        })
    }

    /// What the tracer may believe of an answer of the helper, which may be what a hostile file made of it.
    pub(crate) fn believed(mut self) -> Option<Self> {
        let is_short = self.version.len() <= build_info::MAX_VERSION;
        self.module = self
            .module
            .filter(|module| module.len() <= build_info::MAX_MODULE);
        self.layout = self.layout.filter(Layout::is_plausible);
        is_short.then_some(self)
    }
}

impl Layout {
    fn of(image: &Image<'_>, version: &str) -> Option<Self> {
        if !image.is_x86_64() {
            return None;
        }
        let (structures, source) = match dwarf::structures(image) {
            Some(found) => (found, LayoutSource::DebugInfo),
            None => (Structures::of_version(version)?, LayoutSource::Table),
        };
        let table = find_table(image)?;
        let module = find_module(image, table.address)?;
        let pointer = |at: u64| image.pointer(module.checked_add(at)?);
        let text = (pointer(TEXT)?, pointer(TEXT_END)?);
        let machine = Machine {
            image,
            functions: Pclntab::new(table.bytes)?,
            text: text.0,
        };
        let (gomaxprocs, runq_size) = variables(image, &structures);
        let layout = Self {
            offsets: structures.offsets,
            source,
            text,
            tls_g: machine.tls_g(),
            gomaxprocs: gomaxprocs.or_else(|| machine.gomaxprocs()),
            runq_size: runq_size.or_else(|| machine.runq_size()),
            code_segment: image.code_segment(text.0)?,
        };
        layout.is_plausible().then_some(layout)
    }

    fn is_plausible(&self) -> bool {
        let tls = self.tls_g.map_or(0, i64::unsigned_abs);
        self.offsets.are_plausible() && self.text.0 < self.text.1 && tls <= MAX_TLS_BYTES
    }
}

/// `runtime.gomaxprocs`, and the size of the run queue in `runtime.sched`, by the symbol table.
fn variables(image: &Image<'_>, structures: &Structures) -> (Option<u64>, Option<u64>) {
    let [gomaxprocs, sched] = image.symbols(["runtime.gomaxprocs", "runtime.sched"]);
    let within = u64::from(structures.sched_runq_size);
    let runq_size = sched.and_then(|sched| sched.checked_add(within));
    let is_variable = |address: &u64| image.is_data(*address, 4);
    (
        gomaxprocs.filter(is_variable),
        runq_size.filter(is_variable),
    )
}
