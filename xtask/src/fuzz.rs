//! `cargo xtask fuzz`: runs fuzz targets for a while, with the corpus that is kept in the repository.

use anyhow::ensure;

use crate::cargo::cargo;
use crate::shell::{root, run};

/// All targets.
const TARGETS: [&str; 9] = [
    "trace",
    "trace_rows",
    "ring",
    "btf",
    "maps",
    "perf_map",
    "build_id",
    "go",
    "unwind",
];
/// What takes longer is a hang, s.
const TIMEOUT_S: u32 = 20;
/// What takes more memory has no bound, MiB.
const MEMORY_MIB: u32 = 1024;

/// Runs one target, or each in turn.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> anyhow::Result<()> {
    let chosen: Vec<&str> = match target {
        None => TARGETS.to_vec(),
        Some(target) => {
            ensure!(
                TARGETS.contains(&target),
                "no fuzz target {target}: there are {}",
                TARGETS.join(", ")
            );
            vec![target]
        }
    };
    for target in chosen {
        run(cargo()?
            .current_dir(root()?)
            // Coverage is unstable; this makes the pinned stable toolchain accept it.
            .env("RUSTC_BOOTSTRAP", "1")
            // The code that is not Rust is built without the address sanitizer, which finds little
            // in the rest and makes it ten times slower.
            .args(["fuzz", "run", "--sanitizer", "none", target, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={TIMEOUT_S}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}")))?;
    }
    Ok(())
}
