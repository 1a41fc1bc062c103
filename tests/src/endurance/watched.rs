//! A tracer that runs for long: its records are counted as they come, not kept.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::memory::{Growth, Memory};
use crate::harness::process::{Late, Running};
use crate::harness::record::{Record, Summary};
use crate::harness::tracer::binary;
use crate::harness::{LONG, SOON, preempts_itself};

/// What is looked at of each record.
#[derive(Deserialize)]
struct Short {
    #[serde(rename = "type")]
    kind: String,
    pid: Option<u32>,
    #[serde(default)]
    major: bool,
    // Of a fault, whether it is so; of a summary, a number.
    #[serde(default)]
    began_before_attach: Value,
    #[serde(default)]
    begin_approximate: Value,
    #[serde(default)]
    end_approximate: Value,
}

impl Short {
    fn is_partly_seen(&self) -> bool {
        let partly = [
            &self.began_before_attach,
            &self.begin_approximate,
            &self.end_approximate,
        ];
        partly.contains(&&Value::Bool(true))
    }
}

/// How many unusual majors are kept, to be shown if there is one too many.
const UNUSUAL: usize = 32;

/// A tracer, and what it has said so far.
pub struct Watched {
    running: Running,
    memory: Memory,
    told: Told,
}

/// What a tracer has said.
#[derive(Debug, Default)]
pub struct Told {
    /// Majors among the faults of each process.
    pub majors: BTreeMap<u32, u64>,
    /// Those of which not all was seen: the first few.
    unusual: Vec<String>,
    /// Faults in all.
    pub faults: u64,
    /// Records of stuck threads.
    pub stuck: u64,
    /// `lost` records, by class and reason.
    pub lost: BTreeMap<(String, String), u64>,
    /// Of each process that has one.
    pub summaries: BTreeMap<u32, Summary>,
    /// Events emitted, received and lost.
    pub events: Option<[u64; 3]>,
}

/// What remains of a tracer that has ended.
#[derive(Debug)]
pub struct Report {
    pub told: Told,
    pub code: Option<i32>,
    pub growth: Option<Growth>,
    pub stderr: String,
}

impl Watched {
    /// Starts it and waits until it is attached.
    pub fn start(arguments: &[String]) -> Watched {
        let mut command = Command::new(binary());
        command.args(["--format", "json"]).args(arguments);
        let running = Running::start("faulttrace", &mut command);
        let memory = Memory::of(running.pid());
        let mut watched = Watched {
            running,
            memory,
            told: Told::default(),
        };
        // Loading takes a second of CPU time, of which there may be little.
        let deadline = Instant::now() + LONG;
        let first = watched.running.next_line(deadline, "the start");
        let Some(first) = first.filter(|line| line.text.contains("\"type\":\"start\"")) else {
            watched.running.fail("does not begin with a `start` record");
        };
        watched.told.take(&first.text);
        watched
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it has said and was taken.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Takes what it says for a while. Panics if it ends.
    pub fn take_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        loop {
            let soon = deadline.min(Instant::now() + Duration::from_millis(200));
            match self.running.poll_line(soon) {
                Ok(Some(line)) => self.told.take(&line.text),
                Ok(None) => self.running.fail("ended by itself"),
                Err(Late) if soon == deadline => return,
                Err(Late) => {}
            }
            self.memory.look();
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Ctrl-C, then all that it still says. Memory is judged if that is wanted.
    pub fn stop(self, judge_memory: bool) -> Report {
        self.running.signal(Signal::SIGINT);
        self.finish(judge_memory)
    }

    /// All that it says until it ends.
    pub fn finish(mut self, judge_memory: bool) -> Report {
        let deadline = Instant::now() + LONG;
        while let Some(line) = self.running.next_line(deadline, "the end of the trace") {
            self.told.take(&line.text);
        }
        let code = self.running.wait(deadline).code();
        Report {
            code,
            growth: judge_memory.then(|| self.memory.growth()),
            stderr: self.running.stderr(),
            told: self.told,
        }
    }

    /// Ends it without warning.
    pub fn kill(mut self) {
        self.running.signal(Signal::SIGKILL);
        self.running.wait(Instant::now() + SOON);
    }
}

impl Told {
    fn take(&mut self, line: &str) {
        let short: Short = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("not a record: {error}\n{line}"));
        match &*short.kind {
            "fault" => {
                self.faults += 1;
                let pid = short.pid.expect("a fault has a process");
                *self.majors.entry(pid).or_default() += u64::from(short.major);
                if short.major && short.is_partly_seen() && self.unusual.len() < UNUSUAL {
                    self.unusual.push(line.to_owned());
                }
            }
            "stuck" => self.stuck += 1,
            "lost" | "summary" => self.take_whole(line),
            _ => {}
        }
    }

    fn take_whole(&mut self, line: &str) {
        match serde_json::from_str(line).expect("it was a record before") {
            Record::Lost(lost) => {
                *self.lost.entry((lost.class, lost.reason)).or_default() += lost.count;
            }
            Record::Summary(summary) => {
                if let (Some(emitted), Some(received), Some(lost)) = (
                    summary.events_emitted,
                    summary.events_received,
                    summary.events_lost,
                ) {
                    self.events = Some([emitted, received, lost]);
                }
                if let Some(pid) = summary.pid {
                    self.summaries.insert(pid, summary);
                }
            }
            _ => {}
        }
    }
}

impl Report {
    /// Panics unless it ended as it should, and all that was emitted was received or lost.
    pub fn check(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        let [emitted, received, lost] = self.told.events.expect("the counts of events");
        assert_eq!(emitted, received + lost, "emitted = received + lost");
    }

    /// Majors of a process: reported, by the kernel's count; and events lost, of all processes.
    /// Panics unless they agree, but for so many that the process had while the tracer was being
    /// attached or detached: these it declares.
    pub fn check_majors(&self, pid: u32, at_the_edges: u64) -> [u64; 3] {
        let summary = self.told.summaries.get(&pid);
        let summary = summary.unwrap_or_else(|| panic!("no summary of {pid}\n{}", self.stderr));
        let reported = self.told.majors.get(&pid).copied().unwrap_or(0);
        // With --output, what nobody read in time was not shown, and that is counted.
        let key = ("lost".to_owned(), "output_overrun".to_owned());
        let not_shown = self.told.lost.get(&key).copied().unwrap_or(0);
        assert!(
            reported <= summary.majors && summary.majors <= reported + not_shown,
            "{pid}: {reported} majors shown, {not_shown} not shown, {summary:?}"
        );
        let reported = summary.majors;
        let [_, _, lost] = self.told.events.expect("the counts of events");
        let counted = summary
            .maj_flt_delta
            .unwrap_or_else(|| panic!("the kernel's count of {pid} is unknown\n{}", self.stderr));
        let declared =
            i64::try_from(counted).expect("a count") - i64::try_from(reported).expect("a count");
        assert_eq!(summary.maj_flt_remainder, Some(declared), "{summary:?}");
        // No fault here is without an exception: what was not reported was lost.
        let missing = u64::try_from(declared).unwrap_or_else(|_| {
            let unusual = self.told.unusual.join("\n");
            panic!(
                "more majors reported than counted: {summary:?}\n{}\n{unusual}",
                self.stderr
            )
        });
        // Of one that does not sleep, the kernel's event is the only sign, and there some are dropped.
        let dropped = if preempts_itself() { counted / 100 } else { 0 };
        // Those that slept at the edges are seen, and counted, the more the longer attaching takes.
        let key = ("filtered".to_owned(), "ended_while_attaching".to_owned());
        let outside = self.told.lost.get(&key).copied().unwrap_or(0);
        assert!(
            missing <= lost + at_the_edges + outside + dropped,
            "{missing} of {pid} are neither reported nor lost: {summary:?}"
        );
        [reported, counted, lost]
    }
}
