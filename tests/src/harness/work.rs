//! A workload process from the test's side.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::cgroup::MemoryGroup;
use super::process::{Running, until};
use super::{LONG, SOON};
use crate::truth::{Done, Ready};

/// The program that has all workloads; cargo builds it next to the tests.
pub fn binary() -> PathBuf {
    let own = env::current_exe().expect("the path of this program");
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM.
    let mut directories = own.ancestors().skip(1).take(2);
    let found = directories
        .find_map(|directory| Some(directory.join("faulttrace-workload")).filter(|it| it.exists()));
    found.unwrap_or_else(|| {
        panic!(
            "no faulttrace-workload beside {}: build the whole package",
            own.display()
        )
    })
}

/// A workload that is set up and waits for `go`.
pub struct Work {
    running: Running,
    /// What it said when it was ready.
    pub ready: Ready,
}

impl Work {
    /// Starts a workload and waits until it is ready.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Work {
        let arguments: Vec<OsString> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let name = format!("workload {arguments:?}");
        Self::start_command(&name, Command::new(binary()).args(arguments))
    }

    /// Starts any program that speaks the protocol.
    pub fn start_command(name: &str, command: &mut Command) -> Work {
        let running = Running::start(name, command);
        let ready: Ready = receive(&running, "ready", Instant::now() + SOON);
        Work { running, ready }
    }

    /// Starts `swap` in this memory cgroup, which takes away all that it has in memory.
    pub fn start_swapped_out(group: &MemoryGroup, pages: usize) -> Work {
        let mut command = group.command(&binary());
        command.arg("swap").arg(format!("--pages={pages}"));
        let work = Self::start_command("swap", &mut command);
        group.empty_swap_cache();
        work
    }

    /// Process id, as the workload itself sees it.
    pub fn pid(&self) -> u32 {
        self.ready.pid
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.running.say("go");
    }

    /// Tells it something more.
    pub fn say(&mut self, line: &str) {
        self.running.say(line);
    }

    /// Waits until its work is done.
    pub fn done(&mut self) -> Done {
        self.done_as()
    }

    /// The same of a program that says other things than workloads do.
    pub fn done_as<T: DeserializeOwned>(&mut self) -> T {
        receive(&self.running, "done", Instant::now() + LONG)
    }

    /// Lets it begin and waits until its work is done.
    pub fn run(&mut self) -> Done {
        self.go();
        self.done()
    }

    /// Waits until one of its threads sleeps in a page fault: blocked, and in no system call.
    pub fn wait_until_in_fault(&self, tid: u32) {
        let file = format!("/proc/{}/task/{tid}/syscall", self.pid());
        until("the thread sleeps in a fault", SOON, || {
            std::fs::read_to_string(&file).is_ok_and(|call| call.starts_with("-1 "))
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Lets it exit, and waits until it has.
    pub fn exit(mut self) {
        self.running.close_input();
        let status = self.running.wait(Instant::now() + SOON);
        assert!(
            status.success(),
            "{}: {status}\n{}",
            self.running.name(),
            self.running.stderr()
        );
    }

    /// Ends a workload that was never told to begin.
    pub fn exit_without_work(mut self) {
        self.running.signal(Signal::SIGKILL);
        self.running.wait(Instant::now() + SOON);
    }

    /// Process id as seen from here, of the program that was started.
    pub fn outer_pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for the end of a workload that was killed.
    pub fn gone(mut self) {
        self.running.wait(Instant::now() + SOON);
    }
}

/// Receives `word {json}`.
pub(super) fn receive<T: DeserializeOwned>(running: &Running, word: &str, deadline: Instant) -> T {
    let Some(line) = running.next_line(deadline, word) else {
        running.fail(&format!("ended before it said `{word}`"));
    };
    let json = line.text.strip_prefix(word).unwrap_or_else(|| {
        running.fail(&format!("said this instead of `{word}`: {}", line.text));
    });
    serde_json::from_str(json).unwrap_or_else(|error| {
        running.fail(&format!("said `{word}` in an unknown form: {error}"));
    })
}
