//! The tracer under test: started, listened to, stopped, and its whole output as one [`Trace`].

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::emulated;
use super::process::{Line, Running, run, tail};
use super::record::{Fault, Record, Start, Stuck, Summary};
use super::saved::SavedTrace;
use super::{LONG, SOON, work};
use crate::clock::unix_ns;

/// The tracer's program: `FAULTTRACE_BIN`.
pub fn binary() -> PathBuf {
    find().unwrap_or_else(|reason| panic!("{reason}"))
}

fn find() -> Result<PathBuf, String> {
    let set = env::var_os("FAULTTRACE_BIN").map(PathBuf::from);
    let path = set.ok_or("FAULTTRACE_BIN must name the tracer to test: `cargo xtask e2e` does")?;
    let real = path.canonicalize();
    real.map_err(|error| format!("FAULTTRACE_BIN={}: {error}", path.display()))
}

/// Whether the tracer itself says that it can trace here; if not, what it says.
pub(super) fn runs() -> Result<(), String> {
    let output = run(Command::new(find()?).arg("doctor"), SOON);
    if output.status.success() {
        return Ok(());
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "faulttrace cannot trace on this machine, so nothing can be tested ({}):\n{stdout}\n{}",
        output.status,
        tail(&stderr)
    ))
}

/// Runs the tracer to its end and returns its exit code, stdout and stderr.
pub fn run_to_end<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    run_command(Command::new(binary()).args(arguments))
}

/// As [`run_to_end`], for a tracer behind `unshare`, `setpriv` and their like.
pub fn run_command(command: &mut Command) -> Ended {
    let output = run(command, SOON);
    Ended {
        command: format!("{command:?}"),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Lets the tracer launch a workload, with text output, and run it to its end. `before_go` runs
/// when the workload is ready.
pub fn launch_text<S: AsRef<OsStr>>(
    options: &[&str],
    workload: &[S],
    before_go: impl FnOnce(),
) -> Ended {
    let mut command = Command::new(binary());
    command
        .args(options)
        .arg("--")
        .arg(work::binary())
        .args(workload);
    let mut running = Running::start("faulttrace", &mut command);
    let deadline = Instant::now() + LONG;
    let mut stdout = String::new();
    let mut before_go = Some(before_go);
    while let Some(line) = running.next_line(deadline, "the end of the text") {
        // The workload has the tracer's input and output.
        if line.text.starts_with("ready ") {
            if let Some(before_go) = before_go.take() {
                before_go();
            }
            running.say("go");
        } else if line.text.starts_with("done ") {
            running.close_input();
        } else {
            stdout.push_str(&line.text);
            stdout.push('\n');
        }
    }
    let code = running.wait(deadline).code();
    Ended {
        command: format!("{command:?}"),
        code,
        stdout,
        stderr: running.stderr(),
    }
}

/// A tracer that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Panics unless it ended with this code and its stderr has all these words (in any case).
    pub fn expect(&self, code: i32, words: &[&str]) {
        let stderr = self.stderr.to_lowercase();
        let missing: Vec<_> = words
            .iter()
            .filter(|word| !stderr.contains(&word.to_lowercase()))
            .collect();
        assert!(
            self.code == Some(code) && missing.is_empty(),
            "{}\nexpected exit code {code}, got {:?}; words missing in stderr: {missing:?}\n\
             stdout: {}\n{}",
            self.command,
            self.code,
            self.stdout,
            tail(&self.stderr)
        );
    }
}

/// A tracer that is attached. It also saves what it traces (not on an emulated machine, where the
/// tests are too slow for it), and at its end what a replay of that prints must be what it has printed,
/// whatever the workload was.
pub struct Tracer {
    running: Running,
    lines: Vec<Line>,
    saved: Option<SavedTrace>,
    /// How long it took from its start to its `start` record.
    pub attached_after: Duration,
    /// When its `start` record came.
    pub attached_at: Instant,
    /// The `start` record.
    pub start: Start,
}

impl Tracer {
    /// Starts it with `--format json` and waits until it is attached.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Tracer {
        let mut command = Command::new(binary());
        command.args(["--format", "json"]);
        // Who saves does not wait for a slow reader: lines would be missing, and counted.
        let saved = (!emulated()).then(SavedTrace::new);
        if let Some(saved) = &saved {
            command.arg("--output").arg(saved.path());
        }
        command.args(arguments);
        let mut tracer = Self::start_command(&mut command);
        tracer.saved = saved;
        tracer
    }

    /// As [`Tracer::start`] with `--pid`.
    pub fn of(pid: u32) -> Tracer {
        Self::start(["--pid", &pid.to_string()])
    }

    /// As [`Tracer::start`] with `--pid` and further options.
    pub fn of_with(pid: u32, options: &[&str]) -> Tracer {
        Self::start([&["--pid", &pid.to_string()], options].concat())
    }

    /// Starts a tracer whose whole command the caller has put together.
    pub fn start_command(command: &mut Command) -> Tracer {
        let begin = Instant::now();
        let running = Running::start("faulttrace", command);
        // An emulated machine takes its time to verify programs.
        let within = if emulated() { LONG } else { SOON };
        let Some(first) = running.next_line(begin + within, "the `start` record") else {
            running.fail("ended without a `start` record");
        };
        let Record::Start(start) = parse(&first.text) else {
            running.fail(&format!(
                "began with something else than `start`: {}",
                first.text
            ));
        };
        let (attached_at, attached_after) = (first.at, first.at - begin);
        Tracer {
            running,
            lines: vec![first],
            saved: None,
            attached_after,
            attached_at,
            start,
        }
    }

    /// The tracer's own process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The file in which it saves what it traces.
    pub fn saved_path(&self) -> PathBuf {
        self.saved.as_ref().expect("it saves what it traces").path()
    }

    /// Waits for a record. Panics at the deadline, or when the output ends.
    pub fn wait_for<T>(
        &mut self,
        awaited: &str,
        within: Duration,
        mut wanted: impl FnMut(&Record) -> Option<T>,
    ) -> (Instant, T) {
        let deadline = Instant::now() + within;
        loop {
            let Some(line) = self.running.next_line(deadline, awaited) else {
                self.running.fail(&format!("ended before {awaited}"));
            };
            let found = wanted(&parse(&line.text));
            let at = line.at;
            self.lines.push(line);
            if let Some(found) = found {
                return (at, found);
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Ctrl-C, then everything it still says.
    pub fn stop(self) -> Trace {
        self.running.signal(Signal::SIGINT);
        self.finish()
    }

    /// Kills it without warning. Returns what it had said until then, and the time (Unix, ns).
    pub fn kill(mut self) -> (Vec<Record>, SavedTrace, u64) {
        let killed_ns = unix_ns();
        self.running.signal(Signal::SIGKILL);
        let deadline = Instant::now() + SOON;
        while let Some(line) = self.running.next_line(deadline, "the end of the output") {
            self.lines.push(line);
        }
        self.running.wait(deadline);
        let saved = self.saved.take().expect("it saves what it traces");
        // The last line may be cut.
        let whole = self.lines.iter();
        let records = whole.filter_map(|line| serde_json::from_str(&line.text).ok());
        (records.collect(), saved, killed_ns)
    }

    /// Waits until it ends by itself.
    pub fn finish(mut self) -> Trace {
        let deadline = Instant::now() + LONG;
        while let Some(line) = self.running.next_line(deadline, "the end of the trace") {
            self.lines.push(line);
        }
        let status = self.running.wait(deadline);
        if let Some(saved) = &self.saved {
            saved.check_replay(&self.lines);
        }
        Trace {
            saved: self.saved.take(),
            records: self.lines.iter().map(|line| parse(&line.text)).collect(),
            code: status.code(),
            stderr: self.running.stderr(),
        }
    }
}

fn parse(line: &str) -> Record {
    serde_json::from_str(line)
        .unwrap_or_else(|error| panic!("not a record of the contract: {error}\n{line}"))
}

/// All that a tracer has said.
#[derive(Debug)]
pub struct Trace {
    /// The file in which it saved it, as long as this lives.
    pub saved: Option<SavedTrace>,
    pub records: Vec<Record>,
    pub code: Option<i32>,
    pub stderr: String,
}

impl Trace {
    /// The faults of a process.
    pub fn faults(&self, pid: u32) -> Vec<&Fault> {
        self.all_faults()
            .into_iter()
            .filter(|fault| fault.facts.pid == pid)
            .collect()
    }

    /// The faults of all processes.
    pub fn all_faults(&self) -> Vec<&Fault> {
        let faults = self.records.iter().filter_map(|record| match record {
            Record::Fault(fault) => Some(&**fault),
            _ => None,
        });
        faults.collect()
    }

    /// The reports of a process's faults that are not over.
    pub fn stuck(&self, pid: u32) -> Vec<&Stuck> {
        let stuck = self.records.iter().filter_map(|record| match record {
            Record::Stuck(stuck) if stuck.facts.pid == pid => Some(&**stuck),
            _ => None,
        });
        stuck.collect()
    }

    /// The summary of a process. Panics if there is none, or more than one.
    pub fn summary(&self, pid: u32) -> &Summary {
        let summaries = self.records.iter().filter_map(|record| match record {
            Record::Summary(summary) if summary.pid == Some(pid) => Some(summary),
            _ => None,
        });
        let all: Vec<_> = summaries.collect();
        let [one] = all[..] else {
            self.fail(&format!(
                "{} summaries of process {pid}, not one",
                all.len()
            ));
        };
        one
    }

    /// How many of a loss or gap it told of, by its reason.
    pub fn lost_for(&self, reason: &str) -> u64 {
        let counts = self.records.iter().filter_map(|record| match record {
            Record::Lost(lost) if lost.reason == reason => Some(lost.count),
            _ => None,
        });
        counts.sum()
    }

    /// Sum of the `lost` records of a class.
    pub fn lost(&self, class: &str) -> u64 {
        let count = |record: &Record| match record {
            Record::Lost(lost) if lost.class == class => lost.count,
            _ => 0,
        };
        self.records.iter().map(count).sum()
    }

    /// Events emitted by the kernel side, received, and lost, of the whole trace.
    pub fn event_counts(&self) -> [u64; 3] {
        let counts = |record: &Record| match record {
            Record::Summary(summary) => Some([
                summary.events_emitted?,
                summary.events_received?,
                summary.events_lost?,
            ]),
            _ => None,
        };
        let found = self.records.iter().find_map(counts);
        found.unwrap_or_else(|| self.fail("no summary has events_emitted, _received and _lost"))
    }

    /// Panics if anything was lost.
    pub fn check_nothing_lost(&self) {
        let losses: Vec<_> = self
            .records
            .iter()
            .filter(|record| matches!(record, Record::Lost(lost) if lost.class == "lost"))
            .collect();
        assert!(
            losses.is_empty(),
            "nothing may be lost, but: {losses:?}\n{}",
            tail(&self.stderr)
        );
    }

    /// Panics with a message, and the end of the tracer's stderr.
    pub fn fail(&self, message: &str) -> ! {
        panic!("{message}\n{}", tail(&self.stderr));
    }

    /// Panics unless it holds.
    pub fn check(&self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.fail(&message());
        }
    }
}
