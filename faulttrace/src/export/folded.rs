//! Folded stacks, one line each: `thread;outermost;…;innermost;[cause] blocked_ns`, as
//! flamegraph.pl, inferno and speedscope read them.
//!
//! Threads of one name are one, in whichever process, as is usual in this format. A stack that was
//! never blocked has no line; the lines add up to the time blocked in all faults.

use std::collections::HashMap;
use std::io::Write;

use super::bounded::{Budget, Dictionary, Groups, Limits};
use super::names::{self, CUT, MAX_FRAMES, NO_STACK};
use super::{Error, Export};
use crate::model::summary::{StackKey, Summary};
use crate::model::{Cause, Fault, Name, Record, Stack};

/// Longest text of one stack, bytes.
const MAX_TEXT: usize = 64 << 10;

/// Adds up time blocked by thread name, stack and cause.
#[derive(Debug)]
pub(super) struct Stacks {
    groups: Groups<Key>,
    threads: Dictionary<Name>,
    texts: Dictionary<Box<str>>,
    /// Which text a stack has: stacks of several processes can have the same.
    known: HashMap<StackKey, u32>,
    budget: Budget,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    thread: u32,
    stack: u32,
    cause: Option<Cause>,
}

impl Stacks {
    pub(super) fn new(limits: Limits) -> Self {
        Stacks {
            groups: Groups::new(limits),
            threads: Dictionary::default(),
            texts: Dictionary::default(),
            known: HashMap::new(),
            budget: Budget::new(limits.bytes),
        }
    }

    pub(super) fn add(&mut self, fault: &Fault) {
        if fault.blocked_ns == 0 {
            return;
        }
        let key = self.key(fault);
        // As long as its line, since a flame graph needs all lines at once.
        let bytes = key.as_ref().map_or(0, |key| {
            let thread = self
                .threads
                .get(key.thread)
                .map_or(0, |name| name.as_bytes().len());
            thread + self.texts.get(key.stack).map_or(0, |text| text.len())
        });
        self.groups.add(key, bytes, fault, &mut self.budget);
    }

    fn key(&mut self, fault: &Fault) -> Option<Key> {
        let thread = &fault.facts.thread;
        Some(Key {
            thread: self
                .threads
                .id(thread, thread.as_bytes().len(), &mut self.budget)?,
            stack: self.stack(fault)?,
            cause: fault.facts.cause,
        })
    }

    fn stack(&mut self, fault: &Fault) -> Option<u32> {
        let stack = fault.facts.user_stack.as_deref();
        let key = StackKey {
            pid: fault.facts.pid,
            id: stack.map(|stack| stack.id),
        };
        if let Some(id) = self.known.get(&key) {
            return Some(*id);
        }
        if self.budget.is_full() {
            return None;
        }
        let text = stack.map_or_else(|| NO_STACK.to_owned(), frames);
        // Twice: for the text, and for the entry that leads to it.
        let id = self
            .texts
            .id(text.as_str(), 2 * text.len(), &mut self.budget)?;
        self.known.insert(key, id);
        Some(id)
    }

    /// The lines without their ends, and the time of each; the same order for the same faults.
    pub(super) fn lines(&self) -> impl Iterator<Item = (String, u64)> {
        let mut lines: Vec<(&Name, &str, &str, u64)> = self
            .groups
            .iter()
            .filter_map(|(key, sums)| {
                let thread = self.threads.get(key.thread)?;
                let stack = self.texts.get(key.stack)?;
                let cause = key.cause.map_or("no cause", Cause::as_str);
                Some((thread, stack.as_ref(), cause, sums.blocked_ns))
            })
            .collect();
        lines.sort_unstable();
        let beyond = self
            .groups
            .beyond()
            .map(|sums| (self.groups.beyond_name(), sums.blocked_ns));
        lines
            .into_iter()
            .map(|(thread, stack, cause, blocked_ns)| {
                let thread = frame(&names::thread(thread));
                (format!("{thread};{stack};[{cause}]"), blocked_ns)
            })
            .chain(beyond)
    }
}

/// The frames of a stack, outermost first.
fn frames(stack: &Stack) -> String {
    let mut text = String::new();
    let mut shown = stack.frames.len().min(MAX_FRAMES);
    let names: Vec<String> = stack.frames[..shown]
        .iter()
        .map(|of| frame(&names::function(of)))
        .collect();
    // The innermost are kept: they tell where the fault was.
    let mut bytes = 0;
    if let Some(fits) = names.iter().position(|name| {
        bytes += name.len();
        bytes > MAX_TEXT
    }) {
        shown = fits;
    }
    if stack.truncated || shown < stack.frames.len() {
        text.push_str(CUT);
    }
    for name in names[..shown].iter().rev() {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(name);
    }
    if text.is_empty() {
        text.push_str(NO_STACK);
    }
    text
}

/// A name as a frame: what has a meaning in the format is escaped like everything else.
fn frame(name: &str) -> String {
    let mut text = name.replace(';', "\\x3b");
    if let Some(rest) = text.strip_prefix(' ') {
        text = format!("\\x20{rest}");
    } else if let Some(rest) = text.strip_prefix('#') {
        // A line that begins so is a comment to some.
        text = format!("\\x23{rest}");
    }
    if let Some(rest) = text.strip_suffix(' ') {
        text = format!("{rest}\\x20");
    }
    text
}

/// The format.
#[derive(Debug)]
pub(super) struct Folded {
    stacks: Stacks,
}

impl Folded {
    pub(super) fn new() -> Self {
        Folded {
            stacks: Stacks::new(Limits::default()),
        }
    }
}

impl Export for Folded {
    fn record(&mut self, record: &Record, _out: &mut dyn Write) -> Result<(), Error> {
        if let Record::Fault(fault) = record {
            self.stacks.add(fault);
        }
        Ok(())
    }

    fn finish(&mut self, _summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
        for (stack, blocked_ns) in self.stacks.lines() {
            writeln!(out, "{stack} {blocked_ns}")?;
        }
        Ok(())
    }
}
