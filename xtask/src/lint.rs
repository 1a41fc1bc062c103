//! The checks that run nothing of ours: exactly what CI runs, quick ones first.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::cargo::cargo;
use crate::shell::{root, run, say, target_dir};

/// What else than the architecture of this machine must build.
pub(crate) const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// A file longer than this has more than one job.
const MAX_LINES: usize = 500;

/// Runs every check; stops at the first that fails.
pub(crate) fn lint() -> anyhow::Result<()> {
    file_length()?;
    run(cargo()?.args(["fmt", "--all", "--check"]))?;
    // Advisories are not checked here: they need their database from the network, and a new one
    // would break a commit that changed nothing. CONTRIBUTING.md says when to run that check.
    run(cargo()?.args([
        "deny",
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    run(cargo()?.args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))?;
    ebpf_clippy()?;
    fuzz_clippy()?;
    other_architecture()?;
    run(cargo()?
        .env("RUSTDOCFLAGS", "-Dwarnings")
        .args(["doc", "--workspace", "--no-deps"]))
}

/// Both sides for aarch64: checking the tool runs its build script, which builds the programs for the
/// architecture that is asked for.
fn other_architecture() -> anyhow::Result<()> {
    run(cargo()?.args(["check", "--package", "faulttrace", "--target", AARCH64]))
}

/// Lints the programs for the target they are built for.
fn ebpf_clippy() -> anyhow::Result<()> {
    let target = if cfg!(target_endian = "big") {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    };
    let arch = std::env::consts::ARCH;
    run(cargo()?
        // `-Zbuild-std` is unstable; this makes the pinned stable toolchain accept it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\""),
        )
        .args([
            "clippy",
            "--package",
            "faulttrace-ebpf",
            "--bin",
            "faulttrace-ebpf",
        ])
        .args(["--target", target, "-Zbuild-std=core", "--target-dir"])
        // Build scripts that look at RUSTC_BOOTSTRAP would be rebuilt back and forth.
        .arg(target_dir()?.join("ebpf-lint"))
        .args(["--", "-Dwarnings"]))
}

/// Lints the fuzz targets, which are a workspace of their own. Nothing is linked, so that libFuzzer, for
/// which a C++ compiler would be needed, need not be there.
fn fuzz_clippy() -> anyhow::Result<()> {
    let built = target_dir()?.join("fuzz-lint");
    run(cargo()?
        .env("CUSTOM_LIBFUZZER_PATH", built.join("libfuzzer.a"))
        .args(["clippy", "--manifest-path"])
        .arg(root()?.join("fuzz/Cargo.toml"))
        .args(["--all-targets", "--locked", "--target-dir"])
        .arg(built)
        .args(["--", "-Dwarnings"]))
}

fn file_length() -> anyhow::Result<()> {
    let top = root()?;
    let mut files = Vec::new();
    rust_files(&top, &mut files)?;
    say(&format!(
        "checking that none of {} Rust files is over {MAX_LINES} lines",
        files.len()
    ));
    let mut long = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            let name = file.strip_prefix(&top).unwrap_or(&file);
            long.push(format!("{}: {lines} lines", name.display()));
        }
    }
    ensure!(
        long.is_empty(),
        "longer than {MAX_LINES} lines, so to be split by job:\n{}",
        long.join("\n")
    );
    Ok(())
}

/// Collects the `.rs` files under a directory, but for build output and hidden directories.
fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let context = || format!("reading {}", directory.display());
    for entry in directory.read_dir().with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name();
        let path = entry.path();
        if entry.file_type().with_context(context)?.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
