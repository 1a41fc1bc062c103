//! What /proc says of processes and threads without taking the target's `mmap_lock`, so that none
//! of it can hang with a stuck target; but for `stat` and `exe` of one that hangs while it executes another
//! program, on kernels that take its `exec_update_lock` for these (seen on 6.18).

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::model::Name;

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;
/// Longest `/proc/PID/stat` and similar files worth reading.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a thread or process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error(
        "no process or thread has the id {0} (it may have exited); to find it by name: pgrep -a NAME"
    )]
    NotFound(u32),
    /// It ended but was not waited for by its parent.
    #[error(
        "process {pid} has exited and waits for its parent (state Z); its parent is {parent}: ps -fp {parent}"
    )]
    Zombie {
        /// The process.
        pid: u32,
        /// Its parent.
        parent: u32,
    },
    /// It is a thread of the kernel, which has no user memory.
    #[error(
        "{pid} is the kernel thread [{name}]: it has no user memory that could fault; for the processes that do: ps -e --ppid 2 -N"
    )]
    KernelThread {
        /// The thread.
        pid: u32,
        /// Its name, escaped.
        name: String,
    },
    /// The id of a thread was given for that of a process.
    #[error(
        "{tid} is a thread of process {pid}; for the process: --pid {pid}; for this thread alone: --tid {tid}"
    )]
    IsThread {
        /// What was given.
        tid: u32,
        /// The process.
        pid: u32,
    },
    /// What must be known of it could not be read in time.
    #[error(
        "process {0} cannot be looked at: reading /proc/{0}/stat hangs, as it does while a process executes another program and a file that is closed thereby does not answer (ps -o pid,stat,wchan -p {0} may hang, too)"
    )]
    Hangs(u32),
    /// /proc could not be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// /proc says something that cannot be understood.
    #[error("{path} cannot be understood")]
    Malformed {
        /// The file.
        path: String,
    },
}

/// The fields of a `stat` file that matter here (man 5 proc_pid_stat).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// `comm`, as the target chose it.
    pub comm: Name,
    /// One letter.
    pub state: u8,
    /// Parent process.
    pub parent: u32,
    /// `PF_*` bits.
    pub flags: u32,
    /// Major faults; of a process: with its dead threads.
    pub maj_flt: u64,
    /// When it started, clock ticks after boot.
    pub start_time: u64,
    /// CPU time in user mode, clock ticks; of a process: with its dead threads.
    pub user_ticks: u64,
    /// CPU time in the kernel, likewise.
    pub system_ticks: u64,
    /// Threads of its process.
    pub threads: u32,
    /// Time that this thread waited for block I/O, clock ticks; 0 without delay accounting.
    pub blkio_ticks: Option<u64>,
}

impl Stat {
    /// Parses the content of a `stat` file. The name may hold anything, `)` and line ends included.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let comm = Name::from(bytes.get(open + 1..close)?);
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Fields are numbered from 1 in the man page; the state is number 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            comm,
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            maj_flt: field(12)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
            user_ticks: field(14)?.parse().ok()?,
            system_ticks: field(15)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            blkio_ticks: field(42).and_then(|ticks| ticks.parse().ok()),
        })
    }
}

/// The stat of a process, totals over its threads included.
pub fn process_stat(pid: u32) -> Result<Stat, Error> {
    stat(pid, &format!("/proc/{pid}/stat"))
}

/// The stat of one thread.
pub fn thread_stat(pid: u32, tid: u32) -> Result<Stat, Error> {
    stat(tid, &format!("/proc/{pid}/task/{tid}/stat"))
}

fn stat(id: u32, path: &str) -> Result<Stat, Error> {
    Stat::parse(&read(id, path)?).ok_or_else(|| Error::Malformed {
        path: path.to_owned(),
    })
}

/// Reads a file of /proc, bounded. A file that is gone means that the thread is.
pub(super) fn read(id: u32, path: &str) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let result = fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    result.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Error::NotFound(id),
        _ => Error::Read {
            path: path.to_owned(),
            source,
        },
    })
}

/// Thread ids of a process.
pub fn list(pid: u32) -> Result<Vec<u32>, Error> {
    let path = format!("/proc/{pid}/task");
    numbers(Path::new(&path)).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Error::NotFound(pid),
        _ => Error::Read { path, source },
    })
}

/// Every process of the system.
pub fn processes() -> Vec<u32> {
    numbers(Path::new("/proc")).unwrap_or_default()
}

fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// Whether there is a process of this id. Waits for nothing.
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    // No signal is sent; one that may not be sent would have somebody to go to.
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// Whether a process has ended and its parent has not waited for it; `false` if that cannot be read. Waits for
/// nothing.
pub fn is_zombie(pid: u32) -> bool {
    let Ok(status) = fs::read(format!("/proc/{pid}/status")) else {
        return false;
    };
    let field = |key| status_field(&status, key).map(str::trim);
    // The first thread may have ended before the others.
    field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
        && field("Threads:") == Some("1")
}

/// Every process but this one, threads of the kernel included, whose name passes.
pub fn processes_named(passes: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let own = std::process::id();
    let wanted = |pid: &u32| *pid != own && name(*pid).is_ok_and(|name| passes(name.as_bytes()));
    processes().into_iter().filter(wanted).collect()
}

/// `maj_flt` of a process, its dead threads included.
pub fn process_maj_flt(pid: u32) -> Result<u64, Error> {
    process_stat(pid).map(|stat| stat.maj_flt)
}

/// `maj_flt` of one thread.
pub fn maj_flt(pid: u32, tid: u32) -> Result<u64, Error> {
    thread_stat(pid, tid).map(|stat| stat.maj_flt)
}

/// When a living process started, in clock ticks after boot; tells it from a later one of the
/// same id. A zombie is not living.
pub fn start_time(pid: u32) -> Result<u64, Error> {
    start_time_of(pid, &process_stat(pid)?)
}

fn start_time_of(pid: u32, stat: &Stat) -> Result<u64, Error> {
    // The first thread may have ended before the others.
    if stat.state == b'Z' && list(pid).is_ok_and(|tids| tids.len() <= 1) {
        return Err(Error::Zombie {
            pid,
            parent: stat.parent,
        });
    }
    Ok(stat.start_time)
}

/// When a process that has user memory started, `None` if it has ended but is still there.
pub fn user_start_time(pid: u32) -> Result<Option<u64>, Error> {
    let stat = process_stat(pid)?;
    not_of_the_kernel(pid, &stat)?;
    Ok(start_time_of(pid, &stat).ok())
}

/// Now, in clock ticks after boot like the time at which a process started.
pub fn now_ticks() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let nanoseconds = i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec());
    u64::try_from(nanoseconds * i128::from(ticks_per_second()?) / 1_000_000_000).ok()
}

/// How many clock ticks /proc counts in a second.
pub(super) fn ticks_per_second() -> Option<u64> {
    u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()
}

/// The process that a thread belongs to.
pub fn process_of(tid: u32) -> Result<u32, Error> {
    status_number(tid, "Tgid:")
}

/// A number in `/proc/ID/status`.
fn status_number(id: u32, key: &str) -> Result<u32, Error> {
    let path = format!("/proc/{id}/status");
    let bytes = read(id, &path)?;
    let value = status_field(&bytes, key).and_then(|value| value.trim().parse().ok());
    value.ok_or(Error::Malformed { path })
}

/// The value of a line of a `status` file. The name's line comes first and is escaped by the kernel
/// (proc_task_name), so no other line can be forged by it.
pub(super) fn status_field<'a>(status: &'a [u8], key: &str) -> Option<&'a str> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key.as_bytes()))?;
    std::str::from_utf8(line).ok()
}

/// What `/proc/PID/task/TID/status` says of a thread on its way to the CPU and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduling {
    /// One letter.
    pub state: u8,
    /// How often it has left the CPU.
    pub switches: u64,
}

impl Scheduling {
    /// Whether it sleeps, or is about to.
    pub fn is_asleep(&self) -> bool {
        matches!(self.state, b'D' | b'S')
    }
}

/// Reads it.
pub fn scheduling(pid: u32, tid: u32) -> Result<Scheduling, Error> {
    let path = format!("/proc/{pid}/task/{tid}/status");
    let bytes = read(tid, &path)?;
    let number = |key| status_field(&bytes, key).and_then(|value| value.trim().parse::<u64>().ok());
    let state = status_field(&bytes, "State:").and_then(|value| value.trim().bytes().next());
    let sum = number("voluntary_ctxt_switches:").zip(number("nonvoluntary_ctxt_switches:"));
    let found = state
        .zip(sum)
        .map(|(state, (voluntary, others))| Scheduling {
            state,
            switches: voluntary + others,
        });
    found.ok_or(Error::Malformed { path })
}

/// Checks that the faults of a process can be traced: it lives, and has user memory.
pub fn check_traceable(pid: u32) -> Result<(), Error> {
    let stat = process_stat(pid)?;
    let process = process_of(pid)?;
    if process != pid {
        return Err(Error::IsThread {
            tid: pid,
            pid: process,
        });
    }
    not_of_the_kernel(pid, &stat)?;
    start_time_of(pid, &stat).map(|_| ())
}

fn not_of_the_kernel(pid: u32, stat: &Stat) -> Result<(), Error> {
    if stat.flags & PF_KTHREAD == 0 {
        return Ok(());
    }
    let name = stat.comm.as_bytes().escape_ascii().to_string();
    Err(Error::KernelThread { pid, name })
}

/// The name of a process, which does not hang.
pub fn name(pid: u32) -> Result<Name, Error> {
    let bytes = read(pid, &format!("/proc/{pid}/comm"))?;
    Ok(Name::from(bytes.strip_suffix(b"\n").unwrap_or(&bytes)))
}

/// The file that a process executes.
pub fn executable(pid: u32) -> Option<Name> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(Name::from(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_lines_does_not_confuse_the_parser() {
        let text = b"12 (a) R 1\n(x) S 7 1 1 0 -1 4194304 10 20 30 40 5 6 7 8 20 0 1 0 999 1000 10 18446744073709551615";
        let stat = Stat::parse(text).expect("parses");
        assert_eq!(stat.comm, Name::from("a) R 1\n(x"));
        assert_eq!(
            (stat.state, stat.parent, stat.maj_flt, stat.start_time),
            (b'S', 7, 30, 999)
        );
        assert_eq!(
            (
                stat.user_ticks,
                stat.system_ticks,
                stat.threads,
                stat.blkio_ticks
            ),
            (5, 6, 1, None)
        );
    }

    #[test]
    fn garbage_is_no_stat() {
        for text in [
            b"".as_slice(),
            b"1 (",
            b")(",
            b"1 (x) ",
            b"1 (x) S",
            b"1 (x) S a b c d e f g h",
            b"\xff(\xff)\xff",
        ] {
            assert_eq!(Stat::parse(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn this_process_is_traceable_and_known() {
        let pid = std::process::id();
        check_traceable(pid).expect("we live");
        assert!(list(pid).expect("threads").contains(&pid));
        assert!(executable(pid).is_some());
        assert_eq!(
            name(pid).expect("named"),
            process_stat(pid).expect("stat").comm
        );
        let started = user_start_time(pid).expect("no thread of the kernel");
        assert!(started > Some(0) && started <= now_ticks());
        assert!(exists(pid) && exists(1));
        scheduling(pid, pid).expect("its scheduling");
    }

    #[test]
    fn a_thread_is_not_taken_for_a_process() {
        let (send, receive) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(nix::unistd::gettid().as_raw()).expect("sent");
            let _ = wait.recv();
        });
        let tid = u32::try_from(receive.recv().expect("a tid")).expect("positive");
        assert!(
            matches!(check_traceable(tid), Err(Error::IsThread { pid, .. }) if pid == std::process::id())
        );
        drop(done);
        thread.join().expect("ends");
    }

    #[test]
    fn an_ended_child_is_a_zombie_and_then_nobody() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !matches!(check_traceable(pid), Err(Error::Zombie { .. })) {
            assert!(std::time::Instant::now() < deadline, "never a zombie");
            std::thread::yield_now();
        }
        child.wait().expect("ended");
        assert!(matches!(check_traceable(pid), Err(Error::NotFound(_))));
        assert!(!exists(pid) && !exists(u32::MAX));
    }
}
