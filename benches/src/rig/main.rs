//! Measures faulttrace and its peers on real faults, as root on the running kernel, and prints
//! Markdown: the whole of docs/benchmarks.md or one section of it. `cargo xtask bench` runs it.
//!
//! Measurements, not tests: nothing fails because a figure is bad. What cannot be measured fails.

mod bpf;
mod kernel;
mod machine;
mod memory;
mod pairs;
mod start;
mod stats;
mod storm;
mod storms;
mod table;
mod tools;
mod tracer;
mod usage;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use clap::{Parser, ValueEnum};
use faulttrace_tests::harness::sweep;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use tools::Tools;

/// Where it belongs.
const DEBUGFS: &str = "/sys/kernel/debug";
/// Where files are in memory, and how the names of ours begin.
const MEMORY: &str = "/dev/shm";
const PREFIX: &str = "faulttrace-bench-";

/// Measure faulttrace and its peers
#[derive(Parser)]
struct Args {
    /// What to measure
    part: Part,
    /// The faulttrace to measure
    #[arg(long)]
    faulttrace: PathBuf,
    /// The program that has the storms
    #[arg(long)]
    workload: PathBuf,
    /// What faulttrace was built from, for the document
    #[arg(long)]
    source: String,
    /// How often each tracer attaches
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// All of them, as a document
    All,
    Minor,
    Switch,
    Stall,
    Read,
    Mapped,
    Kernel,
    Start,
    Memory,
}

/// What all measurements need.
pub(crate) struct Settings {
    tools: Tools,
    source: String,
    rounds: usize,
    /// A directory in memory, so that no disk takes part.
    scratch: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(
        geteuid().is_root(),
        "tracing needs root and this is uid {}: `cargo xtask bench` asks for it",
        geteuid()
    );
    let _alone = alone()?;
    debugfs()?;
    sweep(Path::new(MEMORY), PREFIX);
    let scratch = TempDir::with_prefix_in(PREFIX, MEMORY)
        .with_context(|| format!("a directory in {MEMORY}, which has to be in memory"))?;
    let settings = Settings {
        tools: Tools {
            faulttrace: args.faulttrace,
            workload: args.workload,
        },
        source: args.source,
        rounds: args.rounds.max(1),
        scratch: scratch.path().to_owned(),
    };
    let text = match args.part {
        Part::All => document(&settings)?,
        part => section(&settings, part)?,
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("standard output")
}

/// bpftrace looks for tracepoints below debugfs alone, which not every system mounts.
fn debugfs() -> anyhow::Result<()> {
    let events = Path::new(DEBUGFS).join("tracing/events");
    if !events.exists() {
        say(&format!("mounting debugfs at {DEBUGFS}, for bpftrace"));
        let kind = Some("debugfs");
        mount(kind, DEBUGFS, kind, MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount debugfs at {DEBUGFS}"))?;
    }
    ensure!(
        events.exists(),
        "{} is not there, so bpftrace finds no tracepoints",
        events.display()
    );
    Ok(())
}

/// Makes sure that no other measurement runs: both would be wrong.
fn alone() -> anyhow::Result<Flock<File>> {
    let path = Path::new(MEMORY).join("faulttrace-bench.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        anyhow!(
            "{} is locked, so another measurement runs: wait for its end ({error})",
            path.display()
        )
    })
}

fn section(settings: &Settings, part: Part) -> anyhow::Result<String> {
    // Each has a directory of its own, which is gone when it is over.
    let directory = TempDir::new_in(&settings.scratch).context("a directory")?;
    let settings = &Settings {
        tools: Tools {
            faulttrace: settings.tools.faulttrace.clone(),
            workload: settings.tools.workload.clone(),
        },
        source: settings.source.clone(),
        rounds: settings.rounds,
        scratch: directory.path().to_owned(),
    };
    match part {
        Part::All => document(settings),
        Part::Minor => storms::minor(settings),
        Part::Switch => storms::switch(settings),
        Part::Stall => storms::stall(settings),
        Part::Read => storms::read(settings),
        Part::Mapped => storms::mapped(settings),
        Part::Kernel => kernel::kernel(settings),
        Part::Start => start::start(settings),
        Part::Memory => memory::memory_of(settings),
    }
}

fn document(settings: &Settings) -> anyhow::Result<String> {
    let begun = Instant::now();
    let machine = machine::machine(settings)?;
    let mut sections = String::new();
    for part in Part::value_variants() {
        if *part != Part::All {
            sections.push('\n');
            sections.push_str(&section(settings, *part)?);
        }
    }
    Ok(format!(
        "# Benchmarks\n\nWritten by `./x bench`, all of it in one run, and not to be edited. `./x bench \
         minor|switch|stall|read|mapped|kernel|start|memory` prints one section without changing this document.\n\n\
         {machine}\nIt took {} minutes; load when it ended: {}.\n\n## Method\n\n{}\n{sections}",
        begun.elapsed().as_secs().div_ceil(60),
        machine::load(),
        method(settings.rounds)
    ))
}

fn method(rounds: usize) -> String {
    format!(
        "A storm is one process that repeats a small block of work (512 faults or switches, or 16 \
         stalls), each thread bound to a CPU, and logs when each block began and how long it took. \
         Around it the tracers attach in turn, {rounds} times each, and between two of them the storm runs \
         alone, so that each window with a tracer lies between two without. A window begins when the \
         tracer has said that it is attached. Of each window the 20th percentile of its blocks is taken, \
         which leaves out those in which somebody else had the CPU; that of the window with the tracer, \
         by that of the two windows beside it together, is the ratio of the pair. *Slower* is the median \
         of the {rounds} ratios and, in brackets, their lowest and highest; *median block* is the same with \
         the median of the blocks in place of the 20th percentile: it has more of what a tracer \
         takes from the CPU, and more noise. The rows where nothing is attached say how large a \
         difference the method sees where there is none. Times in ns are the 20th percentile. *Tracer \
         CPU* is that of all its processes in the window, of one CPU. Goals are held against the median."
    )
}

/// The first CPUs that this process may use; where there are fewer, some come twice.
pub(crate) fn cpus(count: usize) -> anyhow::Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    let all: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect();
    ensure!(!all.is_empty(), "no CPU to run on");
    Ok(all.iter().copied().cycle().take(count).collect())
}

/// Tells on standard error what goes on.
pub(crate) fn say(text: &str) {
    // If nobody listens, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}
