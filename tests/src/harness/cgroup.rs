//! A memory cgroup (version 1 or 2, whichever the machine has) whose memory can be taken away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::until;

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";
const NAME: &str = "faulttrace-e2e";

/// A memory cgroup, removed on drop (its processes must have ended).
pub struct MemoryGroup {
    path: PathBuf,
    legacy: bool,
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
        MemoryGroup { path, legacy }
    }

    /// A command that runs the program in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        command.arg("-c").arg(script).arg(&self.path).arg(program);
        command
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

    /// Takes away all memory that can be, until no page that is in swap is in memory as well.
    pub fn empty_swap_cache(&self) {
        let (file, amount) = if self.legacy {
            ("memory.force_empty", "0")
        } else {
            ("memory.reclaim", "1G")
        };
        until("the swap cache is empty", Duration::from_secs(15), || {
            // It fails when less could be taken than asked for, which is no matter.
            let _some = fs::write(self.path.join(file), amount);
            let memory = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
            let cached = memory
                .lines()
                .find_map(|line| line.strip_prefix("SwapCached:"));
            cached.expect("SwapCached in /proc/meminfo").trim() == "0 kB"
        });
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
    }
}
