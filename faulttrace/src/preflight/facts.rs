//! What the system says of itself. Below a root directory, so that tests can make one up.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::kernel_calls;
use crate::probe::KernelTypes;
use crate::process::page_bytes;

/// How much to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What takes a few milliseconds.
    Quick,
    /// The kernel's types too.
    Full,
}

/// The state of the kernel's lockdown (security/lockdown).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lockdown {
    /// One of none, integrity, confidentiality.
    Mode(String),
    /// securityfs is not mounted, or the kernel has no lockdown.
    Unknown,
}

/// Whether kernel functions have addresses in /proc/kallsyms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kallsyms {
    Readable,
    /// All addresses read as zero.
    Hidden,
    Unreadable(String),
}

/// Everything that the checks judge by.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// `uname -r`.
    pub(super) release: String,
    /// Machine, `uname -m`.
    pub(super) machine: String,
    /// Size of a page, bytes.
    pub(super) page_bytes: u64,
    /// Effective user id.
    pub(super) uid: u32,
    /// Effective capabilities, a bit each; `None` if they could not be read.
    pub(super) capabilities: Option<u64>,
    /// How much memory may be locked, bytes; `u64::MAX`: any.
    pub(super) memlock_bytes: u64,
    /// Whether the kernel's types can be read, or why not.
    pub(super) btf: Result<(), String>,
    pub(super) lockdown: Lockdown,
    pub(super) kallsyms: Kallsyms,
    pub(super) kptr_restrict: Option<i64>,
    pub(super) perf_event_paranoid: Option<i64>,
    pub(super) perf_event_max_stack: Option<i64>,
    /// Whether this is the first pid namespace; `None` if that could not be read.
    pub(super) initial_pid_namespace: Option<bool>,
    /// Where tracefs is mounted.
    pub(super) tracefs: Option<PathBuf>,
    /// Creating a ring buffer map: done, or why not.
    pub(super) ring_buffer: Result<(), String>,
    /// Opening the perf event of major faults: done, or why not.
    pub(super) perf_event: Result<(), String>,
    /// Attaching a program to the return of `handle_mm_fault`: done, or why not; `None` if not tried.
    pub(super) fexit: Option<Result<(), String>>,
    /// The kernel's types; `None` if not looked at, else read or why not.
    pub(super) types: Option<Result<KernelTypes, String>>,
}

/// Inode number of the first pid namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

impl Facts {
    /// Looks at the files below `root`, and asks the kernel.
    pub(super) fn gather(root: &Path, depth: Depth) -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let text = |value: Option<&std::ffi::OsStr>| {
            value
                .map(|text| text.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let number = |path: &str| {
            fs::read_to_string(root.join(path))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let btf = fs::File::open(root.join("sys/kernel/btf/vmlinux"))
            .map(drop)
            .map_err(|error| error.to_string());
        let types = (depth == Depth::Full && btf.is_ok())
            .then(|| KernelTypes::of_running_kernel().map_err(|error| error.to_string()));
        let fexit = types.as_ref().map(|types| {
            let types = types.as_ref().map_err(String::clone)?;
            let handler = types.handler.map_err(|error| error.to_string())?;
            kernel_calls::attach_fexit(handler).map_err(|error| error.to_string())
        });
        Self {
            release: text(uname.as_ref().map(nix::sys::utsname::UtsName::release)),
            machine: text(uname.as_ref().map(nix::sys::utsname::UtsName::machine)),
            page_bytes: page_bytes(),
            uid: nix::unistd::geteuid().as_raw(),
            capabilities: capabilities(root),
            memlock_bytes: kernel_calls::memlock_bytes(),
            btf,
            lockdown: lockdown(root),
            kallsyms: kallsyms(root),
            kptr_restrict: number("proc/sys/kernel/kptr_restrict"),
            perf_event_paranoid: number("proc/sys/kernel/perf_event_paranoid"),
            perf_event_max_stack: number("proc/sys/kernel/perf_event_max_stack"),
            initial_pid_namespace: fs::read_link(root.join("proc/self/ns/pid"))
                .ok()
                .map(|link| link == Path::new(INITIAL_PID_NAMESPACE)),
            tracefs: tracefs(root),
            ring_buffer: kernel_calls::create_ring_buffer().map_err(|error| error.to_string()),
            perf_event: kernel_calls::open_major_faults().map_err(|error| error.to_string()),
            fexit,
            types,
        }
    }
}

fn capabilities(root: &Path) -> Option<u64> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

/// The file reads `none [integrity] confidentiality`, the mode in force in brackets.
fn lockdown(root: &Path) -> Lockdown {
    let text = fs::read_to_string(root.join("sys/kernel/security/lockdown")).unwrap_or_default();
    let mode = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    mode.map_or(Lockdown::Unknown, |(mode, _)| {
        Lockdown::Mode(mode.to_owned())
    })
}

/// Looks at the first function only; the whole file takes long.
fn kallsyms(root: &Path) -> Kallsyms {
    let mut line = String::new();
    let read = fs::File::open(root.join("proc/kallsyms")).and_then(|file| {
        let mut lines = BufReader::new(file);
        // The very first symbols can be at address 0 of per-CPU data.
        for _ in 0..1000 {
            line.clear();
            if lines.read_line(&mut line)? == 0
                || line
                    .split(' ')
                    .next()
                    .is_some_and(|address| address.bytes().any(|byte| byte != b'0'))
            {
                break;
            }
        }
        Ok(())
    });
    match read {
        Err(error) => Kallsyms::Unreadable(error.to_string()),
        Ok(())
            if line
                .split(' ')
                .next()
                .is_some_and(|address| address.bytes().any(|byte| byte != b'0')) =>
        {
            Kallsyms::Readable
        }
        Ok(()) => Kallsyms::Hidden,
    }
}

fn tracefs(root: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string(root.join("proc/self/mounts")).ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "tracefs").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        let root = with(&[(
            "sys/kernel/security/lockdown",
            "none integrity [confidentiality]\n",
        )]);
        assert_eq!(
            lockdown(root.path()),
            Lockdown::Mode("confidentiality".to_owned())
        );
        assert_eq!(lockdown(Path::new("/nonexistent")), Lockdown::Unknown);
        assert_eq!(
            lockdown(with(&[("sys/kernel/security/lockdown", "[")]).path()),
            Lockdown::Unknown
        );
    }

    #[test]
    fn hidden_addresses_are_told_from_shown_ones() {
        let hidden = "0000000000000000 T _text\n".repeat(1100);
        assert_eq!(
            kallsyms(with(&[("proc/kallsyms", &hidden)]).path()),
            Kallsyms::Hidden
        );
        let shown = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n";
        assert_eq!(
            kallsyms(with(&[("proc/kallsyms", shown)]).path()),
            Kallsyms::Readable
        );
        assert!(matches!(
            kallsyms(Path::new("/nonexistent")),
            Kallsyms::Unreadable(_)
        ));
    }

    #[test]
    fn capabilities_and_mounts_are_read() {
        let root = with(&[
            ("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n"),
            (
                "proc/self/mounts",
                "proc /proc proc rw 0 0\ntracefs /sys/kernel/tracing tracefs rw 0 0\n",
            ),
        ]);
        assert_eq!(capabilities(root.path()), Some(0x1ff_ffff_ffff));
        assert_eq!(
            tracefs(root.path()),
            Some(PathBuf::from("/sys/kernel/tracing"))
        );
        let facts = Facts::gather(root.path(), Depth::Quick);
        assert!(facts.btf.is_err());
        assert!(!facts.release.is_empty());
    }
}
