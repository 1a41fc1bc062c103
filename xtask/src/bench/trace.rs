//! `cargo xtask bench trace`: a saved trace of made-up faults.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::cargo::release_binary;
use crate::shell::{describe, run, say, target_dir};

/// How often the report is measured; the first run warms the page cache.
const RUNS: usize = 4;

/// What writing, reading and reporting a large trace costs.
pub(crate) fn trace(faults: u64) -> anyhow::Result<()> {
    let writer = release_binary("faulttrace-benches", "faulttrace-bench-trace")?;
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    let file = target_dir()?.join("bench.faulttrace");
    run(Command::new(writer)
        .arg(&file)
        .args(["--faults", &faults.to_string()]))?;
    for _ in 0..RUNS {
        report(&faulttrace, &file)?;
    }
    std::fs::remove_file(&file).with_context(|| file.display().to_string())
}

fn report(faulttrace: &Path, file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(faulttrace);
    command.arg("report").arg(file).stdout(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().context("starting faulttrace")?;
    let peak_kib = watch(&mut child)?;
    let wall = begun.elapsed();
    let status = child.wait().context("waiting for faulttrace")?;
    ensure!(status.success(), "{}: {status}", describe(&command));
    say(&format!(
        "faulttrace report: {:.2} s, peak memory {} MiB",
        wall.as_secs_f64(),
        peak_kib.div_ceil(1024)
    ));
    Ok(())
}

/// The highest resident memory (VmHWM of proc(5)) until the process has ended, KiB.
fn watch(child: &mut std::process::Child) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child
        .try_wait()
        .context("waiting for faulttrace")?
        .is_none()
    {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(peak)
}
