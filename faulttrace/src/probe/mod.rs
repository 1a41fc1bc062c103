//! Everything that touches BPF: offsets from BTF, load, attach, the maps, the ring.
//!
//! It does not decode events (`ingest`) and knows nothing of the target's memory or symbols
//! (`process`). The session calls it.

mod attach;
mod block;
mod cache;
#[cfg(test)]
mod depth;
mod found;
mod go;
mod interrupts;
mod jobs;
mod kernel;
mod learn;
mod machine;
mod maps;
mod offsets;
mod reads;
mod skipped;

use std::ops::Range;
use std::panic::resume_unwind;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use faulttrace_ebpf::{counter, filter};

pub use block::{BlockTypes, DiskOf};
pub use cache::{CacheTotals, FillOf, PageCache, evictions_lack};
pub use found::STUCK_JOB;
pub use jobs::{
    FAULT_ENDS, HANDLER, JOBS, Job, KERNEL_FAULT_BEGINS, Need, Rung, begins_rung, is_begin,
};
use maps::Inserted;
pub use maps::{Counters, RawStack};
pub use offsets::{FolioTypes, KernelTypes, NoFexit};

/// The object that build.rs compiled from `faulttrace-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/faulttrace-ebpf"));

/// Maps that only `--io` fills.
const IO_MAPS: [&str; 4] = ["BIOS", "REQUESTS", "FAULT_IO", "HELD"];
/// How many entries each has then: as many as threads can be in a fault.
const IO_ENTRIES: u32 = 16384;

/// Why the programs could not be put to work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's BTF lacks something.
    #[error("kernel type information (/sys/kernel/btf/vmlinux): {0}")]
    Types(String),
    /// kallsyms has no such function.
    #[error(
        "the kernel function {0} is not in /proc/kallsyms; as root: sysctl kernel.kptr_restrict=1"
    )]
    Symbol(&'static str),
    /// The object could not be loaded.
    #[error("load the BPF object: {}", chain(.0))]
    Load(#[from] aya::EbpfError),
    /// A program was refused.
    #[error("job \"{job}\": {reason}")]
    Program {
        /// What the program was for.
        job: &'static str,
        /// What the kernel or the verifier said, for each rung that was tried.
        reason: String,
    },
    /// `--light` where it cannot work.
    #[error(
        "--light needs the tracepoint filemap:mm_filemap_fault, which this kernel lacks (6.12 has it); run without --light"
    )]
    LightUnavailable,
    /// `--light` on a kernel whose stacks are not as expected: faults would go unseen.
    #[error(
        "--light: a page fault of faulttrace's own was not found on its kernel stack, so this kernel lays it out in a way that is not known; run without --light"
    )]
    LightUnlearned,
    /// `--light` where the entry of a page fault cannot be told by one word of the stack.
    #[error("--light works on x86-64 alone; run without --light")]
    LightMachine,
    /// `--evictions` where it cannot work.
    #[error(
        "--evictions needs {0}, which this kernel lacks (6.12 has it); run without --evictions"
    )]
    EvictionsUnavailable(String),
    /// `--io` where it cannot work.
    #[error(
        "--io cannot follow reads to their devices on this kernel: {0}; run without --io, or on a kernel built with CONFIG_BLOCK and tracepoints"
    )]
    IoUnavailable(String),
    /// The fault to learn from could not be taken.
    #[error(
        "take a page fault on /proc/self/exe, to see where the kernel keeps what it handles: {0}"
    )]
    OwnFault(std::io::Error),
    /// A rung that was asked for is not to be had.
    #[error(
        "job \"{job}\" cannot be done as --probe-rung asks: {reason}; without that option, the best way there is is taken"
    )]
    Forced {
        /// What the program was for.
        job: &'static str,
        /// What the kernel or the verifier said.
        reason: String,
    },
    /// A map is missing or refuses an operation.
    #[error("BPF map {name}: {reason}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The list of CPUs could not be read.
    #[error("list of online CPUs: {0}")]
    Cpus(std::io::Error),
}

/// An error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whose faults count.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Every process but this one; the rest is ignored.
    pub all: bool,
    /// Processes to begin with.
    pub tgids: Vec<u32>,
    /// Single threads to begin with.
    pub tids: Vec<u32>,
    /// Add children of those processes.
    pub follow: bool,
    /// Add processes whose name matches: the tables of a `cli::CommPattern`.
    pub comm: Option<CommTables>,
}

/// A name pattern in the form in which the programs match it.
#[derive(Debug, Clone)]
pub struct CommTables {
    /// Bit i of entry b: byte b may stand for atom i.
    pub masks: [u32; 256],
    /// Bit i: a `*` stands after i atoms.
    pub star: u32,
    /// Bit n: the pattern has n atoms.
    pub accept: u32,
}

/// Which tracepoint programs to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracepoints {
    /// Typed ones (`tp_btf`).
    Typed,
    /// Raw ones.
    Raw,
}

/// What to learn the ends of faults from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The return of the function that handles them.
    Fexit,
    /// The tracepoint `rseq_update`.
    Rseq,
    /// Nothing: they are approximate.
    Unseen,
}

/// Rungs to take whatever else works, for tests and measurements. One that cannot be taken is an
/// error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forced {
    /// For every job that a tracepoint does; `None`: the best.
    pub tracepoints: Option<Tracepoints>,
    /// `None`: the best; with tracepoints forced, the best of those.
    pub ends: Option<Ends>,
    /// To learn of the beginnings of faults from the perf event of all faults.
    pub begins_by_event: bool,
    /// Not to learn from `mm_filemap_fault` which page a fault is about.
    pub no_pages: bool,
    /// Not to look at the kernel stacks of threads that were stuck before.
    pub no_iterator: bool,
    /// To have all stacks unwound by the kernel.
    pub unwind: bool,
}

/// How the programs are to behave.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whose faults count.
    pub filter: Filter,
    /// Shorter major faults are counted, not sent.
    pub min_duration: Duration,
    /// Shorter minor faults likewise.
    pub min_minor_duration: Duration,
    /// Size of the ring, bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// How many different stacks are kept.
    pub max_stacks: u32,
    /// Inode number of the pid namespace whose ids are used; 0 = the host's.
    pub pid_namespace: u32,
    /// Do without a program at the beginning of each fault.
    pub light: bool,
    /// Follow what happens to the pages of files.
    pub evictions: bool,
    /// Follow the reads that faults begin to their devices.
    pub io: bool,
    /// Rungs to take whatever else works.
    pub forced: Forced,
    /// Which of the programs' own diagnostics go to the log: 0 none, 1 info, 2 debug and more.
    pub verbose: u8,
}

/// Who knows where the running kernel's functions are.
pub trait KernelFunctions {
    /// The addresses of a function; `None` if the kernel has none of that name.
    fn range_of(&self, name: &str) -> Option<Range<u64>>;
    /// The addresses of all functions whose name is wanted, adjacent ones put together.
    fn ranges_of(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<Range<u64>>;
}

/// The running kernel's types, in the forms in which they are needed.
pub struct RunningKernel {
    types: KernelTypes,
    btf: Btf,
}

impl RunningKernel {
    /// Reads `/sys/kernel/btf/vmlinux`, and parses it for the one and the other at the same time:
    /// it takes a tenth of a second, which the user waits.
    pub fn read() -> Result<Self, Error> {
        let bytes = std::fs::read(offsets::VMLINUX)
            .map_err(|error| Error::Types(format!("read it: {error}")))?;
        let (types, btf) = std::thread::scope(|scope| {
            let types = scope.spawn(|| KernelTypes::from_bytes(&bytes));
            let btf = Btf::parse(&bytes, Endianness::default());
            let types = types.join();
            (types.unwrap_or_else(|panic| resume_unwind(panic)), btf)
        });
        Ok(Self {
            types: types?,
            btf: btf.map_err(|error| Error::Types(chain(&error)))?,
        })
    }
}

/// The programs, loaded; attached after [`Probe::attach`].
pub struct Probe {
    ebpf: Ebpf,
    btf: Btf,
    types: KernelTypes,
    settings: Settings,
    rungs: Vec<(&'static str, Rung)>,
    inflight: maps::InflightMap,
    stacks: maps::StackMap,
    counters: maps::CounterMap,
    inflight_count: maps::CountMap,
    /// Threads that were stuck before and for which there was no room.
    without_room: u64,
    page_cache: Option<PageCache>,
    go: go::GoMaps,
    reads: reads::Reads,
    /// Once the programs are detached.
    skipped: Option<skipped::Skipped>,
}

impl Probe {
    /// Creates the maps and sets the programs' configuration.
    pub fn load(
        settings: Settings,
        kernel: RunningKernel,
        functions: &dyn KernelFunctions,
    ) -> Result<Self, Error> {
        let RunningKernel { types, btf } = kernel;
        let globals = kernel::Globals::new(&settings, &types, functions)?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf));
        globals.set(&mut loader);
        loader.map_max_entries("EVENTS", settings.ring_bytes);
        loader.map_max_entries("STACKS", settings.max_stacks);
        cache::size(&mut loader, settings.evictions);
        if settings.io {
            for map in IO_MAPS {
                loader.map_max_entries(map, IO_ENTRIES);
            }
        }
        // aya_log_common::Level: Info is 3, Debug 4.
        let log_level = if settings.verbose == 0 {
            0
        } else {
            settings.verbose.saturating_add(2)
        };
        loader.override_global(aya_log::LEVEL, &log_level, false);
        let mut ebpf = loader.load(OBJECT)?;
        let inflight = maps::InflightMap::take(&mut ebpf)?;
        let stacks = maps::StackMap::take(&mut ebpf)?;
        let counters = maps::CounterMap::take(&mut ebpf)?;
        let inflight_count = maps::CountMap::take(&mut ebpf)?;
        let go = go::GoMaps::take(&mut ebpf)?;
        let reads = reads::Reads::take(&mut ebpf)?;
        let page_cache = settings
            .evictions
            .then(|| PageCache::new(&mut ebpf))
            .transpose()?;
        let mut probe = Self {
            ebpf,
            btf,
            types,
            settings,
            rungs: Vec::new(),
            inflight,
            stacks,
            counters,
            inflight_count,
            without_room: 0,
            page_cache,
            go,
            reads,
            skipped: None,
        };
        probe.seed_filter()?;
        Ok(probe)
    }

    fn seed_filter(&mut self) -> Result<(), Error> {
        if kernel::mode(&self.settings.filter) != filter::SET {
            return Ok(());
        }
        let filter = self.settings.filter.clone();
        maps::fill(&mut self.ebpf, "TGIDS", &filter.tgids)?;
        maps::fill(&mut self.ebpf, "TIDS", &filter.tids)
    }

    /// Adds processes to those traced (only with a filter that is a set).
    pub fn add_processes(&mut self, tgids: &[u32]) -> Result<(), Error> {
        maps::fill(&mut self.ebpf, "TGIDS", tgids)
    }

    /// Takes processes from those traced, whose ids may be others' by now (only with a filter that is a set).
    pub fn remove_processes(&mut self, tgids: &[u32]) -> Result<(), Error> {
        maps::remove(&mut self.ebpf, "TGIDS", tgids)
    }

    /// Which rung each job took; complete after [`Probe::attach`].
    pub fn rungs(&self) -> &[(&'static str, Rung)] {
        &self.rungs
    }

    /// The ring. Can be taken once.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, Error> {
        maps::take(&mut self.ebpf, "EVENTS")
            .and_then(|map| RingBuf::try_from(map).map_err(|error| maps::refused("EVENTS", &error)))
    }

    /// The threads that are in a fault that put them off the CPU. Makes no system call if there
    /// are none.
    pub fn inflight(&self) -> Vec<faulttrace_ebpf::Inflight> {
        if self.inflight_count.get() == 0 {
            Vec::new()
        } else {
            self.inflight.all()
        }
    }

    /// Enters a thread that was stuck before the programs were attached; `false` if the programs
    /// know it already or have no room, which is counted.
    pub fn insert_inflight(&mut self, entry: faulttrace_ebpf::Inflight) -> Result<bool, Error> {
        // First the count: with an entry and a count of 0, the programs would not look.
        self.inflight_count.add_one();
        let inserted = self.inflight.insert(entry);
        if !matches!(inserted, Ok(Inserted::Done)) {
            self.inflight_count.subtract_one();
        }
        let inserted = inserted?;
        self.without_room += u64::from(inserted == Inserted::NoRoom);
        Ok(inserted == Inserted::Done)
    }

    /// Takes an entry back that was made in error.
    pub fn remove_inflight(&mut self, tid: u32) {
        if self.inflight.remove(tid) {
            self.inflight_count.subtract_one();
        }
    }

    /// A stack by its id; `None` if it was not recorded.
    pub fn stack(&self, id: u64) -> Option<RawStack> {
        self.stacks.get(id)
    }

    /// Makes room: the stack will not be asked for again.
    pub fn forget_stack(&mut self, id: u64) {
        self.stacks.remove(id);
    }

    /// Makes room: forgets the user stacks of processes that are not wanted any more.
    pub fn sweep_stacks(&mut self, wanted: impl Fn(u32) -> bool) -> usize {
        self.stacks.sweep(wanted)
    }

    /// The page cache, with `Settings::evictions`.
    pub fn page_cache(&mut self) -> Option<&mut PageCache> {
        self.page_cache.as_mut()
    }

    /// Sum over CPUs of each counter, and what the kernel itself counts of the programs.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut counters = self.counters.read()?;
        counters.0[counter::INFLIGHT_FULL as usize] += self.without_room;
        let skipped = match self.skipped {
            Some(skipped) => skipped,
            None => skipped::runs(&self.ebpf),
        };
        counters.0[counter::BEGINS_SKIPPED as usize] = skipped.begins;
        counters.0[counter::RUNS_SKIPPED as usize] = skipped.others;
        Ok(counters)
    }

    /// The programs' log, for [`aya_log::EbpfLogger`].
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}
