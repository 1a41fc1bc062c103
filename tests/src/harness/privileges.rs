//! What a thread may do, as the kernel tells it; and programs that may do only some things.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The capabilities that appear here, with their bits (include/uapi/linux/capability.h).
const NAMES: [(&str, u32); 9] = [
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_KILL", 5),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYSLOG", 34),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
    ("CAP_CHECKPOINT_RESTORE", 40),
];

/// Those that suffice instead of root, as README and `faulttrace doctor` say.
pub const INSTEAD_OF_ROOT: [&str; 6] = [
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_PTRACE",
    "CAP_DAC_READ_SEARCH",
    "CAP_CHECKPOINT_RESTORE",
];

/// The user without rights that tests run as.
pub const NOBODY: u32 = 65534;

/// What one thread may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    pub inheritable: u64,
    pub permitted: u64,
    pub effective: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub no_new: bool,
}

impl Rights {
    /// From a `status` file; `None` if the thread has ended.
    pub fn of(task: &Path) -> Option<Rights> {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{key} in {status}")).trim()
        };
        let set = |key| u64::from_str_radix(field(key), 16).expect("a set of bits");
        Some(Rights {
            inheritable: set("CapInh:"),
            permitted: set("CapPrm:"),
            effective: set("CapEff:"),
            bounding: set("CapBnd:"),
            ambient: set("CapAmb:"),
            no_new: field("NoNewPrivs:") == "1",
        })
    }
}

/// The bits of capabilities.
pub fn bits<'a>(names: impl IntoIterator<Item = &'a str>) -> u64 {
    let bit = |name: &str| {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        1 << known
            .unwrap_or_else(|| panic!("{name} is not known here"))
            .1
    };
    names.into_iter().map(bit).fold(0, |all, bit| all | bit)
}

/// A command that runs a program as nobody with just these capabilities.
pub fn command_with(capabilities: &[&str], program: &Path) -> Command {
    let names: BTreeSet<String> = capabilities
        .iter()
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let set = ["-all".to_owned()].into_iter().chain(names);
    let set = set.collect::<Vec<_>>().join(",");
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
        .arg("--clear-groups");
    for option in ["inh-caps", "ambient-caps", "bounding-set"] {
        command.arg(format!("--{option}={set}"));
    }
    command.arg(program);
    command
}
