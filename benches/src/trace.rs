//! Writes a trace of made-up faults through the writer that sessions use, and says what that costs.
//! `cargo xtask bench trace` runs it and then measures `faulttrace report` on the file.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use faulttrace::model::Record;
use faulttrace::trace::{Options, Writer};
use faulttrace_benches::made_up::MadeUp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Records of a batch, as the session makes them at a high rate.
const BATCH: u64 = 32_768;

/// Write a trace of made-up faults and measure what that costs.
#[derive(Parser)]
struct Args {
    /// The file to write; an existing one is replaced
    file: PathBuf,
    /// How many faults
    #[arg(long, default_value_t = 10_000_000)]
    faults: u64,
    /// Other seeds make other faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is printed, as JSON.
#[derive(Serialize)]
struct Costs {
    faults: u64,
    bytes: u64,
    bytes_per_fault: f64,
    /// CPU time of writing alone, s: without making the faults up.
    writer_cpu_s: f64,
    faults_per_cpu_second: f64,
    wall_s: f64,
    peak_memory_kib: i64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let begun = Instant::now();
    let mut source = MadeUp::new(args.seed);
    let options = Options {
        force: true,
        ..Options::default()
    };
    let mut writer = Writer::create(&args.file, &options)?;
    writer.begin(&source.start())?;
    let (mut left, mut writer_cpu_s) = (args.faults, 0.0);
    while left > 0 {
        let batch: Vec<Record> = (0..left.min(BATCH))
            .filter_map(|_| source.fault())
            .map(|fault| Record::Fault(Arc::new(fault)))
            .collect();
        left -= batch.len() as u64;
        let before = cpu_s()?;
        writer.write(&batch, source.now_ns())?;
        writer_cpu_s += cpu_s()? - before;
    }
    let before = cpu_s()?;
    let saved = writer.finish(source.now_ns())?;
    writer_cpu_s += cpu_s()? - before;
    let costs = Costs {
        faults: saved.faults,
        bytes: saved.bytes,
        bytes_per_fault: saved.bytes as f64 / saved.faults.max(1) as f64,
        writer_cpu_s,
        faults_per_cpu_second: saved.faults as f64 / writer_cpu_s,
        wall_s: begun.elapsed().as_secs_f64(),
        peak_memory_kib: getrusage(UsageWho::RUSAGE_SELF)?.max_rss(),
    };
    let json = serde_json::to_string_pretty(&costs)?;
    writeln!(std::io::stdout(), "{json}").context("standard output")
}

/// CPU time of this thread so far, s.
#[expect(clippy::cast_precision_loss, reason = "a CPU time")]
fn cpu_s() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
