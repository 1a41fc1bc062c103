//! A fault in two halves: what many faults have in common, and the numbers that each has of its own.
//!
//! Saved traces store, and analyses count, by the first half; [`Site::fault`] puts both together.

use super::{End, Facts, Fault, Goroutine, History, Io, Sleep};

/// What faults of one thread, in one code, on one mapping, for one reason have in common.
#[derive(Debug, Clone)]
pub struct Site {
    /// Who, where, why; without begin, address and offset, which are in [`Measure`].
    pub facts: Facts,
    /// As in [`Fault`].
    pub major: bool,
    /// As in [`Fault`].
    pub end: End,
}

/// The numbers of one fault; each as in [`Fault`] or its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Unix time of its end, ns.
    pub end_ns: u64,
    /// Entry to completion, ns.
    pub duration_ns: u64,
    /// Asleep, ns.
    pub blocked_ns: u64,
    /// Runnable but not running, ns.
    pub runqueue_ns: u64,
    /// How often the thread left the CPU.
    pub switches: u32,
    /// The faulting address.
    pub address: Option<u64>,
    /// Byte offset in the file of the faulting page.
    pub offset: Option<u64>,
    /// The longest sleep in it.
    pub longest_sleep: Option<Sleep>,
    /// The past of its page.
    pub history: Option<Box<History>>,
    /// What devices did for it.
    pub io: Option<Box<Io>>,
    /// What the thread of a Go program was at.
    pub goroutine: Option<Box<Goroutine>>,
}

impl Measure {
    /// Unix time of its beginning, ns, or the first moment it is known of.
    pub fn begin_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.duration_ns)
    }

    /// What is neither blocked nor on the run queue, ns.
    pub fn on_cpu_ns(&self) -> u64 {
        self.duration_ns
            .saturating_sub(self.blocked_ns)
            .saturating_sub(self.runqueue_ns)
    }
}

impl Site {
    /// The whole fault.
    pub fn fault(&self, measure: Measure) -> Fault {
        let mut facts = self.facts.clone();
        facts.begin_ns = (!facts.began_before_attach).then(|| measure.begin_ns());
        facts.address = measure.address;
        facts.place.offset = measure.offset;
        let on_cpu_ns = measure.on_cpu_ns();
        facts.goroutine = measure.goroutine;
        Fault {
            facts,
            major: self.major,
            end_ns: measure.end_ns,
            duration_ns: measure.duration_ns,
            blocked_ns: measure.blocked_ns,
            runqueue_ns: measure.runqueue_ns,
            on_cpu_ns,
            switches: measure.switches,
            end: self.end,
            longest_sleep: measure.longest_sleep,
            history: measure.history,
            io: measure.io,
        }
    }
}

impl Fault {
    /// The half of it that is its own.
    pub fn measure(&self) -> Measure {
        Measure {
            end_ns: self.end_ns,
            duration_ns: self.duration_ns,
            blocked_ns: self.blocked_ns,
            runqueue_ns: self.runqueue_ns,
            switches: self.switches,
            address: self.facts.address,
            offset: self.facts.place.offset,
            longest_sleep: self.longest_sleep.clone(),
            history: self.history.clone(),
            io: self.io.clone(),
            goroutine: self.facts.goroutine.clone(),
        }
    }
}
