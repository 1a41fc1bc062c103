//! Which capabilities are there, and what each that is not costs.

use super::{Check, MEMORY_COUNTS_BEFORE, State, version};
use crate::preflight::facts::{Facts, Kallsyms};

/// A capability: its bit (include/uapi/linux/capability.h) and name.
type Capability = (u32, &'static str);

/// Stands for the first three, as it did before there were such (5.8, 5.9).
const SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
const CHECKPOINT_RESTORE: Capability = (40, "CAP_CHECKPOINT_RESTORE");
/// To load and attach programs.
const LOADING: [Capability; 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
/// To see the addresses of kernel functions, unless the system shows them to all.
const SYSLOG: Capability = (34, "CAP_SYSLOG");
/// To allow oneself as much locked memory as the maps take, where they count as that.
const RESOURCE: Capability = (24, "CAP_SYS_RESOURCE");
/// To read what /proc says of others, and their programs.
const READING: [Capability; 2] = [(19, "CAP_SYS_PTRACE"), (2, "CAP_DAC_READ_SEARCH")];

/// What the maps take together is more than this.
const MAPS_BYTES: u64 = 16 << 20;

/// What suffices instead of root, as setcap(8) takes it.
const INSTEAD_OF_ROOT: &str =
    "cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore";

pub(super) fn check(facts: &Facts) -> Check {
    let held = facts.capabilities.unwrap_or(0);
    let has = |(bit, _): &Capability| held & (1 << bit) != 0;
    let admin = has(&SYS_ADMIN);
    let lacking = |wanted: &[Capability]| -> Vec<&'static str> {
        let lacking = wanted.iter().filter(|wanted| !has(wanted));
        lacking.map(|(_, name)| *name).collect()
    };
    let mut missing = Vec::new();
    if !admin {
        missing.extend(lacking(&LOADING));
    }
    if facts.kallsyms != Kallsyms::Readable {
        missing.extend(lacking(&[SYSLOG]));
    }
    let version = version(&facts.release);
    let memory_counts = version.is_some_and(|version| version < MEMORY_COUNTS_BEFORE);
    let wants_memory = memory_counts && facts.memlock_bytes < MAPS_BYTES;
    if wants_memory {
        missing.extend(lacking(&[RESOURCE]));
    }
    let mut reading = lacking(&READING);
    if !admin {
        reading.extend(lacking(&[CHECKPOINT_RESTORE]));
        reading.push(SYS_ADMIN.1);
    }
    let state = match (missing.is_empty(), reading.is_empty()) {
        (false, _) => State::Missing,
        (true, false) => State::Degraded,
        (true, true) => State::Ok,
    };
    let lacking = [missing, reading].concat();
    let found = if lacking.is_empty() {
        "all that is needed".to_owned()
    } else {
        format!("without {}", lacking.join(", "))
    };
    Check {
        name: "privileges",
        state,
        found: format!("uid {}, {found}", facts.uid),
        needed: "root, or CAP_BPF, CAP_PERFMON, CAP_SYSLOG (to trace), CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE (for files and functions), CAP_SYS_ADMIN (for threads stuck before the start); before Linux 5.11 CAP_SYS_RESOURCE, too, or no limit to locked memory (ulimit -l); after attaching, what is not needed any more is given up",
        cost: "without the first three, or the last, nothing can be traced; without the next three, files and functions of other users' processes go unnamed; without CAP_SYS_ADMIN, threads stuck before the start are not shown",
        fix: if state == State::Ok {
            String::new()
        } else {
            let more = if wants_memory {
                ",cap_sys_resource"
            } else {
                ""
            };
            format!(
                "run it as root: sudo faulttrace …; or without root, but for threads stuck before the start: sudo setcap {INSTEAD_OF_ROOT}{more}=ep \"$(command -v faulttrace)\""
            )
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::check::tests::well;

    fn held(capabilities: &[Capability]) -> Facts {
        let bits = capabilities
            .iter()
            .fold(0, |bits, (bit, _)| bits | 1 << bit);
        Facts {
            capabilities: Some(bits),
            uid: 1000,
            ..well()
        }
    }

    fn of(capabilities: &[Capability], kallsyms: Kallsyms) -> Check {
        check(&Facts {
            kallsyms,
            ..held(capabilities)
        })
    }

    #[test]
    fn what_suffices_instead_of_root_traces_and_says_what_it_lacks() {
        let mut held = [&LOADING[..], &READING, &[SYSLOG, CHECKPOINT_RESTORE]].concat();
        for (_, name) in &held {
            assert!(INSTEAD_OF_ROOT.contains(&name.to_lowercase()), "{name}");
        }
        let found = of(&held, Kallsyms::Readable);
        assert_eq!(found.state, State::Degraded);
        assert_eq!(found.found, "uid 1000, without CAP_SYS_ADMIN");
        held.push(SYS_ADMIN);
        assert_eq!(of(&held, Kallsyms::Readable).state, State::Ok);
    }

    #[test]
    fn where_maps_count_as_locked_memory_that_must_be_allowed() {
        let of = |release: &str, memlock_bytes, more: &[Capability]| {
            let capabilities = [&LOADING[..], &READING, &[SYSLOG, CHECKPOINT_RESTORE], more];
            check(&Facts {
                release: release.to_owned(),
                memlock_bytes,
                ..held(&capabilities.concat())
            })
        };
        let refused = of("5.10.0-32-amd64", 8 << 20, &[]);
        assert_eq!(refused.state, State::Missing);
        assert!(refused.found.contains("CAP_SYS_RESOURCE"), "{refused:?}");
        assert!(refused.fix.contains(",cap_sys_resource=ep"), "{refused:?}");
        for enough in [
            of("5.10.0-32-amd64", 8 << 20, &[RESOURCE]),
            of("5.10.0-32-amd64", u64::MAX, &[]),
            of("5.10.0-32-amd64", 1 << 30, &[]),
            of("5.11.0", 8 << 20, &[]),
        ] {
            assert_eq!(enough.state, State::Degraded, "{enough:?}");
        }
    }

    #[test]
    fn each_that_is_missing_is_named() {
        let found = of(&[LOADING[0], SYSLOG], Kallsyms::Readable);
        assert_eq!(found.state, State::Missing);
        assert!(
            found.found.contains("without CAP_PERFMON, CAP_SYS_PTRACE"),
            "{found:?}"
        );
        // Where addresses are shown to all, it takes no capability to see them.
        assert_eq!(of(&LOADING, Kallsyms::Readable).state, State::Degraded);
        let hidden = of(&LOADING, Kallsyms::Hidden);
        assert_eq!(hidden.state, State::Missing);
        assert!(hidden.found.contains("CAP_SYSLOG"), "{hidden:?}");
    }
}
