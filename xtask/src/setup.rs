//! Brings what is missing, and says so. Safe to repeat; silent and offline when nothing is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::cargo::cargo;
use crate::lint::AARCH64;
use crate::python;
use crate::shell::{Root, find, output_of, run, say};

/// What the machine is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Build faulttrace and run it on the demo.
    Build,
    /// Also lint and run every test.
    Test,
    /// Build, and run tests on other kernels.
    Vm,
    /// The same, and on another architecture.
    VmArm64,
    /// Build, and measure beside other tracers.
    Bench,
}

/// A Debian package, and the sign that it is there.
struct SystemPackage {
    name: &'static str,
    sign: Sign,
    why: &'static str,
}

enum Sign {
    Program(&'static str),
    File(&'static str),
    /// Python has these modules.
    PythonModules(&'static str),
}

/// What `./x` does not already need for building xtask itself, gcc and headers excepted: a machine
/// may have another linker, and the tests compile C programs.
const SYSTEM_PACKAGES: [SystemPackage; 12] = [
    SystemPackage {
        name: "gcc",
        sign: Sign::Program("gcc"),
        why: "compiles the C programs that the tests trace",
    },
    SystemPackage {
        name: "libc6-dev",
        sign: Sign::File("/usr/include/stdio.h"),
        why: "headers for those programs",
    },
    SystemPackage {
        name: "kmod",
        sign: Sign::Program("modprobe"),
        why: "loads the fuse module where it is not built in",
    },
    SystemPackage {
        name: "mount",
        sign: Sign::Program("losetup"),
        why: "loop devices",
    },
    SystemPackage {
        name: "mount",
        sign: Sign::Program("swapon"),
        why: "swap files",
    },
    SystemPackage {
        name: "util-linux",
        sign: Sign::Program("mkswap"),
        why: "swap files",
    },
    SystemPackage {
        name: "e2fsprogs",
        sign: Sign::Program("mkfs.ext4"),
        why: "file systems on loop devices",
    },
    SystemPackage {
        name: "gcc-aarch64-linux-gnu",
        sign: Sign::Program("aarch64-linux-gnu-gcc"),
        why: "compiles SQLite where the build for aarch64 is checked",
    },
    SystemPackage {
        name: "libc6-dev-arm64-cross",
        sign: Sign::File("/usr/aarch64-linux-gnu/include/stdio.h"),
        why: "headers for that",
    },
    SystemPackage {
        name: "sqlite3",
        sign: Sign::Program("sqlite3"),
        why: "reads saved traces as their users do",
    },
    SystemPackage {
        name: "golang-go",
        sign: Sign::Program("go"),
        why: "go tool pprof reads exported profiles",
    },
    SystemPackage {
        name: "python3-venv",
        sign: Sign::PythonModules("venv, ensurepip"),
        why: "Perfetto's own classes, which read exported timelines, are for Python",
    },
];

/// What only measuring needs: the peers, and what the stalls stall on.
const BENCH_PACKAGES: [SystemPackage; 4] = [
    SystemPackage {
        name: "linux-perf",
        sign: Sign::Program("perf"),
        why: "a peer to measure beside",
    },
    SystemPackage {
        name: "bpftrace",
        sign: Sign::Program("bpftrace"),
        why: "a peer to measure beside",
    },
    SystemPackage {
        name: "mount",
        sign: Sign::Program("losetup"),
        why: "loop devices",
    },
    SystemPackage {
        name: "e2fsprogs",
        sign: Sign::Program("mkfs.ext4"),
        why: "a file system on a loop device",
    },
];

/// What booting other kernels takes, and what the guest has from this machine.
const VM_PACKAGES: [SystemPackage; 13] = [
    SystemPackage {
        name: "dmsetup",
        sign: Sign::Program("dmsetup"),
        why: "goes into the guest",
    },
    SystemPackage {
        name: "binutils",
        sign: Sign::Program("strip"),
        why: "takes debug information out of what goes into the guest",
    },
    SystemPackage {
        name: "qemu-system-x86",
        sign: Sign::Program("qemu-system-x86_64"),
        why: "runs other kernels",
    },
    SystemPackage {
        name: "busybox-static",
        sign: Sign::Program("busybox"),
        why: "the guest's shell",
    },
    SystemPackage {
        name: "cpio",
        sign: Sign::Program("cpio"),
        why: "packs what the guest starts from",
    },
    SystemPackage {
        name: "kmod",
        sign: Sign::Program("depmod"),
        why: "tells which modules the guest needs",
    },
    SystemPackage {
        name: "xz-utils",
        sign: Sign::Program("xz"),
        why: "unpacks modules",
    },
    SystemPackage {
        name: "debian-archive-keyring",
        sign: Sign::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        why: "checks the kernels that are downloaded",
    },
    SystemPackage {
        name: "e2fsprogs",
        sign: Sign::Program("mkfs.ext4"),
        why: "makes the guest's disk",
    },
    SystemPackage {
        name: "mount",
        sign: Sign::Program("mount"),
        why: "goes into the guest",
    },
    SystemPackage {
        name: "mount",
        sign: Sign::Program("losetup"),
        why: "goes into the guest",
    },
    SystemPackage {
        name: "mount",
        sign: Sign::Program("swapon"),
        why: "goes into the guest",
    },
    SystemPackage {
        name: "util-linux",
        sign: Sign::Program("mkswap"),
        why: "goes into the guest",
    },
];

/// What other kernels take besides where they are of another architecture.
const VM_ARM64_PACKAGES: [SystemPackage; 4] = [
    SystemPackage {
        name: "qemu-system-arm",
        sign: Sign::Program("qemu-system-aarch64"),
        why: "runs kernels of arm64",
    },
    SystemPackage {
        name: "gcc-aarch64-linux-gnu",
        sign: Sign::Program("aarch64-linux-gnu-gcc"),
        why: "links for arm64",
    },
    SystemPackage {
        name: "binutils-aarch64-linux-gnu",
        sign: Sign::Program("aarch64-linux-gnu-strip"),
        why: "takes debug information out of what goes into the guest",
    },
    SystemPackage {
        name: "libc6-dev-arm64-cross",
        sign: Sign::File("/usr/aarch64-linux-gnu/include/stdio.h"),
        why: "the C library for arm64",
    },
];

/// A program installed with `cargo install`, at one version so that everybody gets the same result.
struct CargoTool {
    name: &'static str,
    version: &'static str,
    why: &'static str,
}

/// 0.10 uses the LLVM inside the pinned Rust toolchain; from 0.11 on it wants a system LLVM.
const BPF_LINKER: CargoTool = CargoTool {
    name: "bpf-linker",
    version: "0.10.4",
    why: "links the eBPF programs",
};

/// Builds and runs the fuzz targets; only `cargo xtask fuzz` needs it.
const CARGO_FUZZ: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    why: "runs the fuzz targets",
};

const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    why: "checks the licences and sources of the dependencies",
};

/// Installs whatever is missing for the purpose.
pub(crate) fn setup(purpose: Purpose) -> anyhow::Result<()> {
    match purpose {
        Purpose::Build => {}
        Purpose::Test => system_packages(&SYSTEM_PACKAGES)?,
        Purpose::Vm => system_packages(&VM_PACKAGES)?,
        Purpose::VmArm64 => {
            system_packages(&VM_PACKAGES)?;
            system_packages(&VM_ARM64_PACKAGES)?;
        }
        Purpose::Bench => system_packages(&BENCH_PACKAGES)?,
    }
    rust_components(purpose)?;
    cargo_tool(&BPF_LINKER)?;
    if purpose == Purpose::Test {
        cargo_tool(&CARGO_DENY)?;
        python::environment()?;
    }
    fuse_device()
}

/// Installs what only fuzzing needs.
pub(crate) fn fuzzing() -> anyhow::Result<()> {
    setup(Purpose::Build)?;
    cargo_tool(&CARGO_FUZZ)
}

fn system_packages(packages: &[SystemPackage]) -> anyhow::Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| !package.sign.present())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        say(&format!("missing: {} ({})", package.name, package.why));
    }
    let mut names: Vec<_> = missing.iter().map(|package| package.name).collect();
    names.dedup();
    if find("apt-get").is_none() {
        bail!(
            "no apt-get here: install what Debian calls {} in this system's way",
            names.join(", ")
        );
    }
    let root = Root::obtain()?;
    let quiet = [("DEBIAN_FRONTEND", "noninteractive".into())];
    run(root.command("apt-get", &quiet).arg("update"))?;
    run(root
        .command("apt-get", &quiet)
        .args(["install", "--yes", "--no-install-recommends"])
        .args(names))
}

impl Sign {
    fn present(&self) -> bool {
        match self {
            Sign::Program(name) => find(name).is_some(),
            Sign::File(path) => Path::new(path).exists(),
            Sign::PythonModules(modules) => {
                let import = format!("import {modules}");
                output_of(Command::new("python3").args(["-c", &import])).is_some()
            }
        }
    }
}

fn rust_components(purpose: Purpose) -> anyhow::Result<()> {
    let sysroot = output_of(Command::new("rustc").args(["--print", "sysroot"]))
        .context("`rustc --print sysroot` does not work")?;
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let mut missing = Vec::new();
    if !core.exists() {
        missing.push("rust-src");
    }
    if purpose == Purpose::Test {
        for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
            if output_of(cargo()?.args([subcommand, "--version"])).is_none() {
                missing.push(component);
            }
        }
    }
    let target = Path::new(&sysroot).join("lib/rustlib").join(AARCH64);
    let wanted = matches!(purpose, Purpose::Test | Purpose::VmArm64);
    let target = (wanted && !target.exists()).then_some(AARCH64);
    if missing.is_empty() && target.is_none() {
        return Ok(());
    }
    let all: Vec<_> = missing.iter().copied().chain(target).collect();
    say(&format!(
        "missing parts of the Rust toolchain: {}",
        all.join(", ")
    ));
    ensure!(
        find("rustup").is_some(),
        "no rustup here to install them: see https://rustup.rs, or install them in this system's way"
    );
    if !missing.is_empty() {
        run(Command::new("rustup")
            .args(["component", "add"])
            .args(missing))?;
    }
    match target {
        Some(target) => run(Command::new("rustup").args(["target", "add", target])),
        None => Ok(()),
    }
}

fn cargo_tool(tool: &CargoTool) -> anyhow::Result<()> {
    match installed_version(tool.name) {
        Some(version) if version == tool.version => return Ok(()),
        Some(version) => say(&format!(
            "{} is {version}, {} is wanted ({}): replacing it, a few minutes, once",
            tool.name, tool.version, tool.why
        )),
        None => say(&format!(
            "missing: {} {} ({}): building it, a few minutes, once",
            tool.name, tool.version, tool.why
        )),
    }
    run(cargo()?.args(["install", tool.name, "--version", tool.version, "--locked"]))?;
    let version = installed_version(tool.name);
    ensure!(
        version.as_deref() == Some(tool.version),
        "installed {} {}, but what PATH finds is {}: put cargo's bin directory first on PATH",
        tool.name,
        tool.version,
        version.as_deref().unwrap_or("none")
    );
    Ok(())
}

fn installed_version(program: &str) -> Option<String> {
    parse_version(&output_of(Command::new(program).arg("--version"))?)
}

/// The version in `NAME VERSION`, the first line of what `--version` prints.
fn parse_version(text: &str) -> Option<String> {
    text.lines()
        .next()?
        .split_whitespace()
        .nth(1)
        .map(str::to_owned)
}

/// The demo and the tests serve a slow file system through FUSE. Only the device is needed: the
/// file system is mounted by root without libfuse.
fn fuse_device() -> anyhow::Result<()> {
    let device = Path::new("/dev/fuse");
    if device.exists() {
        return Ok(());
    }
    say("missing: /dev/fuse (the demo and the tests serve a slow file system)");
    run(Root::obtain()?.command("modprobe", &[]).arg("fuse"))?;
    ensure!(
        device.exists(),
        "/dev/fuse is still missing: this kernel or container has no FUSE"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_second_word_of_the_first_line() {
        assert_eq!(
            parse_version("bpf-linker 0.10.4\nmore"),
            Some("0.10.4".to_owned())
        );
        assert_eq!(parse_version("bpf-linker"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn absent_tools_have_no_version() {
        assert_eq!(installed_version("no-such-program-of-that-name"), None);
    }
}
