//! Builds the eBPF programs and puts the object where `probe` includes it from:
//! `OUT_DIR/faulttrace-ebpf`.
//!
//! Own code rather than aya-build, which prints the whole nested build as warnings, needs the
//! toolchain's name, and does not say how to mend a missing linker or missing sources.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};

const PROGRAMS: &str = "faulttrace-ebpf";

fn main() -> ExitCode {
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    for line in format!("{error:#}").lines() {
        println!("cargo::error={line}");
    }
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // The workspace's manifest holds the release profile and the versions of aya-ebpf.
    for input in [
        "faulttrace-ebpf/src",
        "faulttrace-ebpf/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(input).display()
        );
    }
    println!("cargo::rerun-if-changed=build.rs");

    require_bpf_linker()?;
    require_rust_src()?;

    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.to_str() {
        Some("little") => "bpfel-unknown-none",
        Some("big") => "bpfeb-unknown-none",
        other => bail!("no BPF target for byte order {other:?}"),
    };
    // A directory of its own: the outer cargo holds the lock of the usual one.
    let target_dir = out.join("ebpf-target");
    build(&workspace, target, &target_dir)?;

    let object = target_dir.join(target).join("release").join(PROGRAMS);
    let wanted = out.join(PROGRAMS);
    std::fs::copy(&object, &wanted)
        .with_context(|| format!("copying {} to {}", object.display(), wanted.display()))?;
    Ok(())
}

/// Runs the nested cargo. Silent on success, but for warnings of the compiler.
fn build(workspace: &Path, target: &str, target_dir: &Path) -> anyhow::Result<()> {
    // aya-ebpf picks the layout of `pt_regs` by this cfg; the loader needs BTF, which bpf-linker
    // makes out of debug information.
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let arch = arch
        .to_str()
        .context("CARGO_CFG_TARGET_ARCH is not UTF-8")?;
    let rustflags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ]
    .join("\x1f");

    let output = Command::new(variable("CARGO")?)
        .args(["build", "--quiet", "--release", "-Zbuild-std=core"])
        .args(["--package", PROGRAMS, "--bin", PROGRAMS, "--target", target])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(workspace)
        // `-Zbuild-std` is unstable; this makes the pinned stable toolchain accept it, here alone.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags)
        // Under `cargo clippy` this is the lint driver. `cargo xtask lint` lints the programs.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .stdin(Stdio::null())
        .output()
        .context("running cargo for the eBPF programs")?;

    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the eBPF programs did not build ({}):\n{messages}",
        output.status
    );
    for line in messages.lines().filter(|line| !line.trim().is_empty()) {
        println!("cargo::warning={line}");
    }
    Ok(())
}

fn require_bpf_linker() -> anyhow::Result<()> {
    let found = Command::new("bpf-linker").arg("--version").output();
    ensure!(
        found.is_ok_and(|output| output.status.success()),
        "bpf-linker, which links the eBPF programs, is not on PATH or does not run.\n\
         To install the version this repository uses: cargo xtask setup"
    );
    Ok(())
}

fn require_rust_src() -> anyhow::Result<()> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()
        .context("asking rustc for its sysroot")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    ensure!(
        core.exists(),
        "the sources of Rust's core library, which the eBPF programs are built with, are missing: \
         no {}.\nTo install them: rustup component add rust-src (or: cargo xtask setup)",
        core.display()
    );
    Ok(())
}

fn variable(name: &str) -> anyhow::Result<OsString> {
    env::var_os(name).with_context(|| format!("cargo did not set {name}"))
}
