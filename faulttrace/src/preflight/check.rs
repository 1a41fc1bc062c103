//! Judges the facts. Pure.

mod privileges;

use super::facts::{Facts, Kallsyms, Lockdown};
use super::ladder::JobRung;
use crate::model::analysis::PAGE_BYTES;
use crate::probe::Rung;

/// The oldest kernel: the ring buffer came with 5.8, and 5.10 is the oldest that is tested.
const OLDEST: (u32, u32) = (5, 10);
/// Before kernel commits 3ac1f01b43b6 and 80ee81e0403c, what BPF takes counts as locked memory.
const MEMORY_COUNTS_BEFORE: (u32, u32) = (5, 11);
/// Frames a stack should have room for (the kernel's default).
const FRAMES: i64 = 127;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Tracing works, but something is lost by it.
    Degraded,
    /// Tracing cannot work.
    Missing,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Missing => "missing",
        }
    }
}

/// One row of doctor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) state: State,
    /// What is there.
    pub(super) found: String,
    /// What is wanted.
    pub(super) needed: &'static str,
    /// What its absence costs.
    pub(super) cost: &'static str,
    /// How to mend it; empty if there is nothing to mend.
    pub(super) fix: String,
}

/// Whether a session can run.
pub(super) fn possible(checks: &[Check], jobs: &[JobRung]) -> bool {
    checks.iter().all(|check| check.state != State::Missing)
        && jobs
            .iter()
            .all(|job| !job.required || job.rung != Rung::None)
}

/// Every check, what others depend on first.
pub(super) fn all(facts: &Facts) -> Vec<Check> {
    vec![
        privileges::check(facts),
        kernel(facts),
        page_size(facts),
        pid_namespace(facts),
        lockdown(facts),
        types(facts),
        symbols(facts),
        bpf(facts),
        perf(facts),
        stack_depth(facts),
        tracefs(facts),
    ]
}

/// Major and minor of a release such as `6.18.44-foo`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(facts: &Facts) -> Check {
    let state = match version(&facts.release) {
        Some(version) if version < OLDEST => State::Missing,
        Some(_) => State::Ok,
        None => State::Degraded,
    };
    Check {
        name: "kernel",
        state,
        found: format!("{} on {}", facts.release, facts.machine),
        needed: "Linux 5.10 or newer",
        cost: "older kernels lack the ring buffer and typed tracepoints",
        fix: if state == State::Missing {
            "boot a newer kernel; on Debian or Ubuntu: apt install --only-upgrade linux-image-amd64 (or linux-generic)".to_owned()
        } else {
            String::new()
        },
    }
}

fn page_size(facts: &Facts) -> Check {
    let ok = facts.page_bytes == PAGE_BYTES;
    Check {
        name: "page size",
        state: if ok { State::Ok } else { State::Missing },
        found: format!("{} bytes", facts.page_bytes),
        needed: "4096 bytes",
        cost: "with larger pages, kernel stacks and offsets in files are other than expected",
        fix: if ok {
            String::new()
        } else {
            "boot a kernel with pages of 4 KiB; on Debian or Ubuntu for arm64: apt install linux-image-arm64 (or linux-generic)".to_owned()
        },
    }
}

fn pid_namespace(facts: &Facts) -> Check {
    let (state, found) = match facts.initial_pid_namespace {
        Some(true) => (State::Ok, "the host's"),
        Some(false) => (
            State::Degraded,
            "another one (a container's): ids are translated to it",
        ),
        None => (State::Degraded, "unreadable: is /proc mounted?"),
    };
    let fix = "run it on the host, where ids of containers are understood too; or: docker run --pid=host --privileged …; or: nsenter --target 1 --pid --mount faulttrace …";
    Check {
        name: "pid namespace",
        state,
        found: found.to_owned(),
        needed: "the host's",
        cost: "processes in pid namespaces below this one are not seen, and each fault costs a little more",
        fix: if state == State::Ok {
            String::new()
        } else {
            fix.to_owned()
        },
    }
}

fn lockdown(facts: &Facts) -> Check {
    let (state, found) = match &facts.lockdown {
        Lockdown::Mode(mode) if mode == "confidentiality" => (State::Missing, mode.clone()),
        Lockdown::Mode(mode) => (State::Ok, mode.clone()),
        Lockdown::Unknown => (
            State::Ok,
            "unknown (securityfs is not mounted, or the kernel has none)".to_owned(),
        ),
    };
    Check {
        name: "lockdown",
        state,
        found,
        needed: "not confidentiality (/sys/kernel/security/lockdown)",
        cost: "with confidentiality, programs may not read kernel memory",
        fix: if state == State::Missing {
            "it cannot be lowered while running: boot without lockdown=confidentiality (cat /proc/cmdline), with lockdown=integrity instead".to_owned()
        } else {
            String::new()
        },
    }
}

fn types(facts: &Facts) -> Check {
    let trouble = match (&facts.btf, &facts.types) {
        (Err(error), _) | (Ok(()), Some(Err(error))) => Some(error.clone()),
        _ => None,
    };
    let missing = trouble.is_some();
    Check {
        name: "kernel types",
        state: if missing { State::Missing } else { State::Ok },
        found: trouble.map_or_else(
            || "/sys/kernel/btf/vmlinux".to_owned(),
            |error| format!("/sys/kernel/btf/vmlinux: {error}"),
        ),
        needed: "BTF of the running kernel in /sys/kernel/btf/vmlinux",
        cost: "without it, the layout of the kernel's structures is unknown",
        fix: if missing {
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (grep BTF /boot/config-$(uname -r)); in a container: mount the host's /sys".to_owned()
        } else {
            String::new()
        },
    }
}

fn symbols(facts: &Facts) -> Check {
    let restrict = facts
        .kptr_restrict
        .map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    let (state, found) = match &facts.kallsyms {
        Kallsyms::Readable => (State::Ok, "/proc/kallsyms has addresses".to_owned()),
        Kallsyms::Hidden => (
            State::Missing,
            format!("/proc/kallsyms hides addresses (kernel.kptr_restrict = {restrict})"),
        ),
        Kallsyms::Unreadable(error) => (State::Missing, format!("/proc/kallsyms: {error}")),
    };
    Check {
        name: "kernel symbols",
        state,
        found,
        needed: "addresses of kernel functions",
        cost: "without them, a fault cannot be told from another sleep, nor its cause named",
        fix: if state == State::Missing {
            "as root: sysctl kernel.kptr_restrict=1".to_owned()
        } else {
            String::new()
        },
    }
}

fn bpf(facts: &Facts) -> Check {
    granted(
        "bpf",
        &facts.ring_buffer,
        "creating a BPF ring buffer",
        "without it, no event reaches faulttrace",
        "run it as root; if it is root already, something forbids bpf(2): a container's seccomp profile (docker run --privileged …), or a security module (dmesg)",
    )
}

fn perf(facts: &Facts) -> Check {
    let mut check = granted(
        "perf events",
        &facts.perf_event,
        "opening the software event of major faults",
        "without it, the end of a major fault is unknown",
        "as root: sysctl kernel.perf_event_paranoid=2, or run it as root; in a container: docker run --privileged …",
    );
    if let Some(paranoid) = facts.perf_event_paranoid {
        check.found = format!("{} (kernel.perf_event_paranoid = {paranoid})", check.found);
    }
    check
}

fn granted(
    name: &'static str,
    result: &Result<(), String>,
    needed: &'static str,
    cost: &'static str,
    fix: &str,
) -> Check {
    let (state, found, fix) = match result {
        Ok(()) => (State::Ok, "works".to_owned(), String::new()),
        Err(error) => (State::Missing, error.clone(), fix.to_owned()),
    };
    Check {
        name,
        state,
        found,
        needed,
        cost,
        fix,
    }
}

fn stack_depth(facts: &Facts) -> Check {
    let depth = facts.perf_event_max_stack;
    let short = depth.is_some_and(|depth| depth < FRAMES);
    Check {
        name: "stack depth",
        state: if short { State::Degraded } else { State::Ok },
        found: depth.map_or_else(
            || "unknown".to_owned(),
            |depth| format!("kernel.perf_event_max_stack = {depth}"),
        ),
        needed: "127 frames",
        cost: "deeper stacks are cut, and a cut kernel stack may not show its fault",
        fix: if short {
            "as root: sysctl kernel.perf_event_max_stack=127".to_owned()
        } else {
            String::new()
        },
    }
}

fn tracefs(facts: &Facts) -> Check {
    Check {
        name: "tracefs",
        state: State::Ok,
        found: facts.tracefs.as_ref().map_or_else(
            || "not mounted".to_owned(),
            |path| format!("mounted at {}", path.display()),
        ),
        needed: "nothing: no rung uses it",
        cost: "none",
        fix: String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests;
