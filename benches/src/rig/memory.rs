//! The section on memory: faulttrace on processes with few and with many threads.

use std::process::Command;

use anyhow::ensure;
use faulttrace_tests::harness::disk::evict;
use faulttrace_tests::harness::work::Work;

use crate::bpf;
use crate::storms::StallDisk;
use crate::table::{Table, thousands};
use crate::tools::Kind;
use crate::tracer::Tracer;
use crate::usage::memory;
use crate::{Settings, say};

/// Threads of the process.
const THREADS: [usize; 3] = [10, 1_000, 10_000];
/// Faults in all, the same for each, so that threads make the difference.
const FAULTS: usize = 20_000;

/// Traces each until its faults are over.
pub(crate) fn memory_of(settings: &Settings) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "threads",
        "faults reported",
        "resident before, MiB",
        "resident after, MiB",
        "of that allocated, MiB",
        "peak, MiB",
        "BPF maps, MiB",
    ]);
    let disk = StallDisk::new(&settings.scratch, 96);
    for threads in THREADS {
        say(&format!("memory with {threads} threads"));
        evict(&disk.file);
        let touches = (FAULTS / threads).to_string();
        let mut command = Command::new(&settings.tools.workload);
        command.arg("touch").arg(&disk.file).args([
            "--threads",
            &threads.to_string(),
            "--touches",
            &touches,
        ]);
        let mut work = Work::start_command(&format!("{threads} threads"), &mut command);
        let kind = Kind::FaulttraceJson;
        let mut tracer = Tracer::start(kind, &settings.tools, work.pid(), &settings.scratch)?;
        tracer.attached()?;
        let pid = tracer.pid().unwrap_or_default();
        let before = memory(pid)?;
        work.run();
        let after = memory(pid)?;
        let maps = bpf::map_bytes_of(pid)?;
        let ended = tracer.stop()?;
        work.exit();
        let account = kind.account(&settings.tools, &ended)?;
        let seen = account.seen.unwrap_or_default();
        ensure!(
            seen > 0,
            "faulttrace reported no fault of {threads} threads"
        );
        let mib = |kib: u64| thousands(kib as f64 / 1024.0);
        table.row([
            thousands(threads as f64),
            thousands(seen as f64),
            mib(before.resident),
            mib(after.resident),
            mib(after.anonymous),
            mib(after.peak),
            mib(maps / 1024),
        ]);
    }
    Ok(format!(
        "## Memory\n\n`faulttrace --format json` on a process whose threads have {} major faults in all. \
         Resident memory of all its processes (the one that reads symbols included; what they share, the \
         program itself for the most part, counts for each), when it has attached and when the faults \
         are over. The kernel's memory for the maps is not part of it, but for the ring buffer, which \
         counts as resident as far as it has been read.\n\n{table}",
        thousands(FAULTS as f64)
    ))
}
