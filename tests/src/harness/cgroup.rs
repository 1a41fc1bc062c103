//! Cgroups (version 1 or 2, whichever the machine has): one whose memory can be taken away, one whose
//! reads can be limited, one that can be frozen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{meminfo, until, until_or};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";
/// Version 2 beside version 1.
const HYBRID_V2: &str = "/sys/fs/cgroup/unified";
const NAME: &str = "faulttrace-e2e";

/// A command that runs the program in cgroups.
fn in_cgroups<'a>(paths: impl IntoIterator<Item = &'a Path>, program: &Path) -> Command {
    let mut command = Command::new("sh");
    let enter = "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 1; shift; done";
    let script = format!("{enter}; shift; exec \"$@\"");
    command.arg("-c").arg(script).arg("sh").args(paths);
    command.arg("--").arg(program);
    command
}

/// A memory cgroup, removed on drop (its processes must have ended).
pub struct MemoryGroup {
    path: PathBuf,
    legacy: bool,
    /// Where its pressure is counted: itself, or one of version 2 beside it; not on every machine.
    pressure: Option<PathBuf>,
}

impl MemoryGroup {
    /// Makes one.
    pub fn new() -> MemoryGroup {
        let legacy = Path::new(V1).join("memory.limit_in_bytes").exists()
            || Path::new(V1).join("memory.usage_in_bytes").exists();
        let path = Path::new(if legacy { V1 } else { V2 }).join(NAME);
        // One may be left by a run that was killed.
        let _left = fs::remove_dir(&path);
        if !legacy {
            let control = Path::new(V2).join("cgroup.subtree_control");
            fs::write(&control, "+memory").expect("a memory cgroup, version 1 or 2");
        }
        fs::create_dir(&path).expect("create a cgroup");
        MemoryGroup {
            path,
            legacy,
            pressure: None,
        }
    }

    /// Makes one whose pressure is counted, if this machine counts any.
    pub fn with_pressure() -> MemoryGroup {
        let mut group = Self::new();
        if !group.legacy {
            group.pressure = Some(group.path.clone());
        } else if Path::new(HYBRID_V2).join("cgroup.procs").exists() {
            let beside = Path::new(HYBRID_V2).join(NAME);
            let _left = fs::remove_dir(&beside);
            fs::create_dir(&beside).expect("create a cgroup");
            group.pressure = Some(beside);
        }
        let counts = |path: &PathBuf| path.join("memory.pressure").exists();
        group.pressure = group.pressure.take().filter(counts);
        group
    }

    /// Time that its tasks waited for memory: of some of them, of all; ns. `None` if it is not counted.
    pub fn memory_pressure_ns(&self) -> Option<(u64, u64)> {
        let text = fs::read_to_string(self.pressure.as_ref()?.join("memory.pressure"));
        let text = text.expect("the pressure of a cgroup");
        let total_ns = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let (_, total_us) = line.expect(key).rsplit_once("total=").expect("a total");
            total_us.parse::<u64>().expect("a number") * 1000
        };
        Some((total_ns("some"), total_ns("full")))
    }

    /// A command that runs the program in it.
    pub fn command(&self, program: &Path) -> Command {
        let beside = self.pressure.iter().filter(|beside| **beside != self.path);
        let all = [&self.path].into_iter().chain(beside);
        in_cgroups(all.map(PathBuf::as_path), program)
    }

    /// Limits its memory, bytes.
    pub fn limit(&self, bytes: u64) {
        let file = if self.legacy {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        fs::write(self.path.join(file), bytes.to_string()).expect("limit the cgroup's memory");
    }

    /// A figure of its `memory.stat`.
    pub fn stat(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.stat")).expect("memory.stat");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("memory.stat has no {name}:\n{text}"));
        value.parse().expect("a number")
    }

    /// Takes away all memory that can be, until no page that is in swap is in memory as well.
    pub fn empty_swap_cache(&self) {
        until("the swap cache is empty", Duration::from_secs(15), || {
            self.reclaim();
            meminfo("SwapCached") == 0
        });
    }

    /// Takes away what can be taken now.
    pub fn reclaim(&self) {
        // Each fails when less could be taken than asked for, which is no matter.
        let write = |file: &str, text: &str| fs::write(self.path.join(file), text);
        let _some = if self.legacy {
            write("memory.force_empty", "0")
        } else if self.path.join("memory.reclaim").exists() {
            write("memory.reclaim", "1G")
        } else {
            // Before 5.19 (commit 94968384dde1); a limit takes at once what is above it.
            write("memory.high", "0").and_then(|()| write("memory.high", "max"))
        };
    }
}

impl Default for MemoryGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.path);
        if let Some(beside) = &self.pressure {
            let _gone = fs::remove_dir(beside);
        }
    }
}

/// A cgroup whose reads of devices can be limited; removed on drop (its processes must have ended).
pub struct IoGroup {
    path: PathBuf,
    legacy: bool,
}

impl IoGroup {
    /// Makes one.
    pub fn new() -> IoGroup {
        let parent = Path::new("/sys/fs/cgroup/blkio");
        let legacy = parent.join("blkio.throttle.read_iops_device").exists();
        if !legacy {
            let control = Path::new(V2).join("cgroup.subtree_control");
            fs::write(&control, "+io").expect("a cgroup that limits I/O, version 1 or 2");
        }
        let parent = if legacy { parent } else { Path::new(V2) };
        let path = parent.join(format!("{NAME}-io"));
        let _left = fs::remove_dir(&path);
        fs::create_dir(&path).expect("create a cgroup");
        IoGroup { path, legacy }
    }

    /// A command that runs the program in it.
    pub fn command(&self, program: &Path) -> Command {
        in_cgroups([&*self.path], program)
    }

    /// Limits how many reads a second a device (`7:0`) gets.
    pub fn limit_reads(&self, device: &str, per_second: u32) {
        let (file, limit) = if self.legacy {
            let limit = format!("{device} {per_second}");
            ("blkio.throttle.read_iops_device", limit)
        } else {
            ("io.max", format!("{device} riops={per_second}"))
        };
        fs::write(self.path.join(file), limit).expect("limit the reads of a cgroup");
    }
}

impl Default for IoGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IoGroup {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.path);
    }
}

/// A cgroup whose processes can be frozen; removed on drop (its processes must have ended).
pub struct Freezer {
    path: PathBuf,
    legacy: bool,
}

impl Freezer {
    /// Makes one. Several programs may have one at a time.
    pub fn new() -> Freezer {
        let legacy = Path::new("/sys/fs/cgroup/freezer").is_dir();
        let parent = if legacy { "/sys/fs/cgroup/freezer" } else { V2 };
        remove_abandoned(Path::new(parent), legacy);
        let path = Path::new(parent).join(format!("{NAME}-{}", std::process::id()));
        fs::create_dir(&path).expect("create a cgroup that can be frozen, version 1 or 2");
        Freezer { path, legacy }
    }

    /// A command that runs the program in it.
    pub fn command(&self, program: &Path) -> Command {
        in_cgroups([&*self.path], program)
    }

    /// Freezes its processes, and waits until they are: one that waits for a disk is frozen when it has
    /// what it waits for.
    ///
    /// Version 1 has to be told again until it is done: a thread that was on its way to sleep for its child
    /// to execute (`wait_for_vfork_done`) was asked too early, and its child does not wake it, being frozen.
    /// It can be frozen where it sleeps (since 6.1, commit f5d39b020809), but only if that is tried again.
    pub fn freeze(&self) {
        let is_frozen = || {
            self.set("FROZEN", "1");
            let (file, frozen) = if self.legacy {
                ("freezer.state", "FROZEN")
            } else {
                ("cgroup.events", "frozen 1")
            };
            fs::read_to_string(self.path.join(file)).is_ok_and(|text| text.contains(frozen))
        };
        let within = Duration::from_secs(180);
        until_or("the cgroup is frozen", within, is_frozen, || self.awake());
    }

    /// What its threads are at that are not frozen.
    fn awake(&self) -> String {
        let threads = if self.legacy {
            "tasks"
        } else {
            "cgroup.threads"
        };
        let tids = fs::read_to_string(self.path.join(threads)).unwrap_or_default();
        let mut text = String::new();
        for tid in tids.lines() {
            let of_it = |file| fs::read_to_string(format!("/proc/{tid}/{file}"));
            let stack = of_it("stack").unwrap_or_else(|error| format!("{error}\n"));
            if !stack.contains("refrigerator") && !stack.contains("do_freezer_trap") {
                let stat = of_it("stat").unwrap_or_default();
                text += &format!("\n{stat}{stack}");
            }
        }
        text
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.set("THAWED", "0");
    }

    fn set(&self, old: &str, new: &str) {
        let (file, value) = if self.legacy {
            ("freezer.state", old)
        } else {
            ("cgroup.freeze", new)
        };
        fs::write(self.path.join(file), value).expect("freeze or thaw a cgroup");
    }
}

/// Thaws and removes what test programs have left that were killed: what is frozen there cannot even
/// be killed (version 1).
fn remove_abandoned(parent: &Path, legacy: bool) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(NAME));
        let Some(pid) = pid.and_then(|rest| rest.strip_prefix('-')) else {
            continue;
        };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let left = Freezer {
            path: entry.path(),
            legacy,
        };
        if let Ok(pids) = fs::read_to_string(left.path.join("cgroup.procs")) {
            for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
                // It may have gone by itself.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        drop(left);
    }
}

impl Default for Freezer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        // Processes that were killed leave it when they are gone.
        for _ in 0..500 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
