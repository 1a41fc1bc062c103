//! faulttrace and its peers: how each is told to do the job, and what it says that it has seen.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use crate::tracer::{ERR, Ended, OUT, SAVED, Sign, output};

/// Where the programs are.
pub(crate) struct Tools {
    pub(crate) faulttrace: PathBuf,
    pub(crate) workload: PathBuf,
}

/// A tracer, and what it is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None: what two halves of the same thing differ by.
    Nothing,
    /// No tracer, but a program that returns at once on each of these tracepoints: what no tracer that
    /// hooks them can be cheaper than.
    Empty(&'static [&'static str]),
    /// JSON Lines on standard output.
    FaulttraceJson,
    /// The same with an option more.
    FaulttraceWith(&'static str),
    /// Only saving.
    FaulttraceSaved,
    /// The same with an option more.
    FaulttraceSavedWith(&'static str),
    /// `perf trace` of every page fault.
    PerfTrace,
    /// `perf record` of each page fault, without stacks.
    PerfRecordAll,
    /// `perf record` of each major fault, with stacks.
    PerfRecordMajor,
    /// bpftrace, which keeps when each page fault began.
    BpftraceStarts,
    /// bpftrace, which does what faulttrace does, roughly: duration and stacks of faults that sleep.
    BpftraceStalls,
}

/// Keeps when each page fault of a thread began, and nothing else: no duration comes out yet.
const STARTS: &str = "tracepoint:exceptions:page_fault_user /pid == $1/ { @start[tid] = nsecs; }";

/// One line for each fault that slept, with its address and time; stacks are counted and printed at
/// the end, which costs less than printing them each time.
const STALLS: &str = "
tracepoint:exceptions:page_fault_user /pid == $1/ { @start[tid] = nsecs; @address[tid] = args->address; }
tracepoint:sched:sched_switch /@start[tid] && args->prev_state/ { @slept[tid] = 1; @stacks[kstack, ustack] = count(); }
tracepoint:sched:sched_switch /@slept[args->next_pid]/ {
  $t = args->next_pid;
  printf(\"fault %d %llx %d\\n\", $t, @address[$t], nsecs - @start[$t]);
  delete(@slept[$t]); delete(@start[$t]);
}
END { clear(@start); clear(@slept); clear(@address); }";

impl Kind {
    /// How it shows that it is attached.
    pub(crate) fn sign(self) -> Sign {
        match self {
            Kind::Nothing | Kind::Empty(_) => Sign::AtOnce,
            Kind::FaulttraceJson | Kind::FaulttraceWith(_) => Sign::Says("\"type\":\"start\""),
            Kind::FaulttraceSaved | Kind::FaulttraceSavedWith(_) => {
                Sign::Says("threads were stuck in a fault before")
            }
            Kind::PerfTrace => Sign::Output,
            Kind::PerfRecordAll | Kind::PerfRecordMajor => Sign::Acknowledges,
            // Of bpftrace's own tests; BEGIN would come before the other probes are attached.
            Kind::BpftraceStarts | Kind::BpftraceStalls => {
                Sign::Says("__BPFTRACE_NOTIFY_PROBES_ATTACHED")
            }
        }
    }

    /// Whether SIGINT can be lost on it: bpftrace 0.17 looks for it only when it interrupts its waiting,
    /// so on a busy machine, where it comes between two waits, it goes on for ever.
    pub(crate) fn misses_signals(self) -> bool {
        matches!(self, Kind::BpftraceStarts | Kind::BpftraceStalls)
    }

    /// Its command, if there is one.
    pub(crate) fn command(self, tools: &Tools, pid: u32) -> Option<Command> {
        let pid = pid.to_string();
        let (program, arguments): (&Path, Vec<&str>) = match self {
            Kind::Nothing | Kind::Empty(_) => return None,
            Kind::FaulttraceJson => (&tools.faulttrace, vec!["--format", "json", "--pid", &pid]),
            Kind::FaulttraceWith(option) => (
                &tools.faulttrace,
                vec![option, "--format", "json", "--pid", &pid],
            ),
            Kind::FaulttraceSaved => (&tools.faulttrace, [&SAVE, &["--pid", &pid][..]].concat()),
            Kind::FaulttraceSavedWith(option) => (
                &tools.faulttrace,
                [&SAVE, &[option, "--pid", &pid][..]].concat(),
            ),
            Kind::PerfTrace => (
                Path::new("perf"),
                vec!["trace", "-F", "all", "--no-syscalls", "-o", OUT, "-p", &pid],
            ),
            Kind::PerfRecordAll => (
                Path::new("perf"),
                [&RECORD, &["-e", "page-faults", "-p", &pid][..]].concat(),
            ),
            Kind::PerfRecordMajor => (
                Path::new("perf"),
                [&RECORD, &["-e", "major-faults", "-g", "-p", &pid][..]].concat(),
            ),
            Kind::BpftraceStarts => (Path::new("bpftrace"), vec!["-e", STARTS, &pid]),
            Kind::BpftraceStalls => (Path::new("bpftrace"), vec!["-e", STALLS, &pid]),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1");
        Some(command)
    }

    /// What it says that it has seen. Some tools tell nothing of that.
    pub(crate) fn account(self, tools: &Tools, ended: &Ended) -> anyhow::Result<Account> {
        match self {
            Kind::FaulttraceJson | Kind::FaulttraceWith(_) => {
                let summary = last_line(&ended.file(OUT))?;
                faulttrace_account(&serde_json::from_str(&summary).context("the summary")?)
            }
            Kind::FaulttraceSaved | Kind::FaulttraceSavedWith(_) => {
                let mut command = Command::new(&tools.faulttrace);
                command.args(["report", "--json"]).arg(ended.file(SAVED));
                let report: Value = serde_json::from_str(&output(&mut command)?)?;
                let mut total = report["total"].clone();
                total["lost_by_class"] = report["lost_by_class"].clone();
                total["events_lost"] = report["events_lost"].clone();
                faulttrace_account(&total)
            }
            Kind::PerfRecordAll | Kind::PerfRecordMajor => {
                let mut command = Command::new("perf");
                command
                    .args(["report", "--stats", "-i"])
                    .arg(ended.file(SAVED));
                Ok(Account {
                    seen: Some(number_after(&output(&mut command)?, "SAMPLE events:").unwrap_or(0)),
                    says: Vec::new(),
                })
            }
            Kind::BpftraceStalls => {
                let text = fs::read(ended.file(OUT)).context(OUT)?;
                let text = String::from_utf8_lossy(&text);
                let errors = fs::read(ended.file(ERR)).context(ERR)?;
                let errors = String::from_utf8_lossy(&errors);
                let lost = text.lines().chain(errors.lines());
                let lost: u64 = lost.filter_map(|line| number_after(line, "Lost ")).sum();
                let seen = text
                    .lines()
                    .filter(|line| line.starts_with("fault "))
                    .count();
                Ok(Account {
                    seen: Some(seen as u64),
                    says: (lost > 0)
                        .then(|| ("lost".to_owned(), lost))
                        .into_iter()
                        .collect(),
                })
            }
            Kind::Nothing | Kind::Empty(_) | Kind::PerfTrace | Kind::BpftraceStarts => {
                Ok(Account::default())
            }
        }
    }
}

/// Says when it is attached.
const SAVE: [&str; 4] = ["-v", "--quiet", "--output", SAVED];

/// Each event, into a file, not counting before it is told to.
const RECORD: [&str; 8] = [
    "record",
    "-c1",
    "--delay=-1",
    "--control=fifo:commands,answers",
    "-o",
    SAVED,
    "--no-buildid",
    "--quiet",
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Empty([hook]) => return write!(f, "an empty program on {hook}"),
            Kind::Empty(hooks) => return write!(f, "empty programs on {}", hooks.join(", ")),
            Kind::Nothing => "nothing (the method's own error)",
            Kind::FaulttraceJson => "faulttrace --format json",
            Kind::FaulttraceWith(option) => return write!(f, "faulttrace {option} --format json"),
            Kind::FaulttraceSavedWith(option) => {
                return write!(f, "faulttrace {option} --quiet --output");
            }
            Kind::FaulttraceSaved => "faulttrace --quiet --output",
            Kind::PerfTrace => "perf trace -F all --no-syscalls",
            Kind::PerfRecordAll => "perf record -e page-faults -c 1",
            Kind::PerfRecordMajor => "perf record -e major-faults -c 1 -g",
            Kind::BpftraceStarts => "bpftrace, start times",
            Kind::BpftraceStalls => "bpftrace, stalls and stacks",
        })
    }
}

/// What a tracer says that it has seen.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Faults; `None` if it does not tell.
    pub(crate) seen: Option<u64>,
    /// Its own words for what it lost, with counts.
    pub(crate) says: Vec<(String, u64)>,
}

fn faulttrace_account(summary: &Value) -> anyhow::Result<Account> {
    let figure = |name: &str| {
        summary[name]
            .as_u64()
            .ok_or_else(|| anyhow!("no {name} in faulttrace's summary"))
    };
    let classes = summary["lost_by_class"]
        .as_object()
        .context("no lost_by_class in faulttrace's summary")?;
    let mut says = Vec::new();
    for (class, reasons) in classes {
        for (reason, count) in reasons.as_object().into_iter().flatten() {
            says.push((format!("{class}: {reason}"), count.as_u64().unwrap_or(0)));
        }
    }
    let events = figure("events_lost")?;
    if events > 0 {
        says.push(("events_lost".to_owned(), events));
    }
    Ok(Account {
        seen: Some(figure("faults")?),
        says,
    })
}

/// The last line of a large file.
fn last_line(path: &Path) -> anyhow::Result<String> {
    const AT_MOST: u64 = 16 << 20;
    let context = || path.display().to_string();
    let mut file = File::open(path).with_context(context)?;
    let size = file.metadata().with_context(context)?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(AT_MOST)))
        .with_context(context)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(context)?;
    let text = String::from_utf8_lossy(&bytes);
    let last = text.trim_end().rsplit('\n').next();
    Ok(last.unwrap_or_default().to_owned())
}

/// The number that follows these words.
fn number_after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_after_words() {
        let text = "  COMM events: 1 ( 9.1%)\n  SAMPLE events:   1234  (45 %)";
        assert_eq!(number_after(text, "SAMPLE events:"), Some(1234));
        assert_eq!(number_after(text, "LOST events:"), None);
        assert_eq!(number_after("Lost 12 events", "Lost "), Some(12));
    }

    #[test]
    fn an_account_without_figures_is_an_error() {
        let lost = serde_json::json!({"lost": {"ring_full": 2}});
        let good = serde_json::json!({"faults": 3, "events_lost": 2, "lost_by_class": lost});
        let account = faulttrace_account(&good).unwrap();
        assert_eq!(account.seen, Some(3));
        assert_eq!(
            account.says,
            [
                ("lost: ring_full".to_owned(), 2),
                ("events_lost".to_owned(), 2)
            ]
        );
        assert!(faulttrace_account(&serde_json::json!({"faults": 3})).is_err());
    }

    #[test]
    fn the_last_line_of_a_file_is_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a\nb\nlast one\n").unwrap();
        assert_eq!(last_line(file.path()).unwrap(), "last one");
    }
}
