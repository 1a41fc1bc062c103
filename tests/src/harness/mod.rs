//! Runs workloads next to the tracer, and cleans up after both, whatever happens.
//!
//! [`start`] gives a test its [`Bench`]: a directory on a real disk and the machine for itself.
//! Everything that waits has a deadline, and says what it waited for when that passes.

pub mod blocks;
pub mod bpf;
pub mod cgroup;
pub mod disk;
pub mod gostall;
pub mod mapper;
pub mod matrix;
pub mod memory;
pub mod nfs;
pub mod privileges;
pub mod process;
pub mod programs;
pub mod reads;
pub mod record;
pub mod saved;
pub mod setting;
pub mod slow;
pub mod tracer;
pub mod work;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

/// How long anything may take that should be a matter of milliseconds, on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);
/// How long a whole workload may take.
pub const LONG: Duration = Duration::from_secs(120);

const PREFIX: &str = "faulttrace-e2e-";
/// On a disk almost everywhere, while /tmp often is memory.
const DEFAULT_DIRECTORY: &str = "/var/tmp";
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// What a test works with. Fields are dropped in order: the directory before the lock.
pub struct Bench {
    directory: TempDir,
    _alone: Flock<File>,
}

/// The machine, for a test that runs the tracer. Panics, with what is missing, if the tracer
/// cannot run here: a test that could not test has failed.
pub fn start() -> Bench {
    static TRACER_RUNS: OnceLock<Result<(), String>> = OnceLock::new();
    let bench = start_without_tracer();
    if let Err(reason) = TRACER_RUNS.get_or_init(tracer::runs) {
        panic!("{reason}");
    }
    bench
}

/// The machine, for a test of the workloads themselves.
pub fn start_without_tracer() -> Bench {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the end-to-end tests need root: `cargo xtask e2e` runs them with sudo"
    );
    let root = root();
    let lock = File::create(root.join("faulttrace-e2e.lock")).expect("create the lock file");
    // One test at a time, threads of this program and other programs alike.
    let alone = match Flock::lock(lock, FlockArg::LockExclusive) {
        Ok(alone) => alone,
        Err((_, error)) => panic!("lock the machine for this test: {error}"),
    };
    memory::sweep(&root);
    sweep(&root, PREFIX);
    let directory = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(&root)
        .expect("directory");
    let kind = nix::sys::statfs::statfs(directory.path())
        .expect("statfs")
        .filesystem_type();
    assert!(
        kind.0 != TMPFS_MAGIC,
        "{} is in memory: set FAULTTRACE_E2E_DIR to a directory on a disk",
        root.display()
    );
    Bench {
        directory,
        _alone: alone,
    }
}

/// Whether this machine is an emulated one (`cargo xtask vm` says so), on which each instruction is
/// slow: where repetition is all that the number of faults is for, fewer will do.
pub fn emulated() -> bool {
    env::var_os("FAULTTRACE_E2E_EMULATED").is_some()
}

/// Whether the kernel preempts itself wherever it can (`cargo xtask vm` says so): then it drops events of majors.
pub fn preempts_itself() -> bool {
    env::var_os("FAULTTRACE_E2E_PREEMPTED").is_some()
}

/// The directory that everything is under.
fn root() -> PathBuf {
    env::var_os("FAULTTRACE_E2E_DIR").map_or(DEFAULT_DIRECTORY.into(), PathBuf::from)
}

impl Bench {
    /// A directory on a real disk, removed with its content at the end.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A new directory in it.
    pub fn subdirectory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).expect("create a directory");
        path
    }
}

/// Removes what a run that was killed has left under names that begin so: mounts, swap, loop devices,
/// directories. The caller holds a lock, so nobody uses them.
pub fn sweep(root: &Path, prefix: &str) {
    let ours = root.join(prefix).display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
    for point in mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(1))
    {
        if point.starts_with(&ours) {
            let _gone = umount2(point, MntFlags::MNT_DETACH);
        }
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for file in swaps.lines().filter_map(|line| line.split(' ').next()) {
        if file.starts_with(&ours) {
            let _off = Command::new("swapoff").arg(file).status();
        }
    }
    disk::detach_leftovers(&ours);
    for entry in fs::read_dir(root).expect("read the directory").flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _gone = fs::remove_dir_all(entry.path());
        }
    }
}
