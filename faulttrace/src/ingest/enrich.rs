//! Events to records: times, places, stacks and causes.

use std::collections::HashMap;
use std::sync::Arc;

use faulttrace_ebpf::goroutine::GoroutineEvent;
use faulttrace_ebpf::{COMM_LEN, FaultEvent, HistoryEvent, Inflight, IoEvent, NO_SYSCALL, flag};
use syscalls::Sysno;

use super::clock::Clock;
use super::flags::{access_of, mode_of, started, waited};
use super::go_starts::Starts;
use super::goroutine;
use super::history::history;
use super::io::Pending;
use super::kernel_stack::{functions, without_tracer};
use super::sleep::{longest_sleep, waker};
use crate::model::{
    Cause, End, Facts, Fault, History, MappingKind, Mode, Name, Place, Stack, Stuck,
};
use crate::probe::RawStack;
use crate::process::{Captured, Cgroups, FileHint, Labels, page_bytes};

/// How many user stacks are remembered as recorded, if the ends of their processes are never seen;
/// each takes up to 1 KiB. Others are asked for again.
const MAX_USER_STACKS: usize = 65_536;

/// How many kernel stacks are remembered with their names, some 10 KiB each. Preemption anywhere makes
/// ever new ones; when there are more, all are named again as they are needed.
const MAX_KERNEL_STACKS: usize = 2048;

/// Where recorded stacks come from.
pub trait Stacks {
    /// The stack of an id; `None` if it was not recorded.
    fn stack(&self, id: u64) -> Option<RawStack>;
    /// The labels of a goroutine by their id; `None` if they were not recorded.
    fn go_labels(&self, id: u64) -> Option<faulttrace_ebpf::goroutine::Labels>;
}

/// Makes records of events. Owns what is remembered of stacks.
pub struct Enricher {
    clock: Clock,
    labels: Labels,
    kernel_stacks: HashMap<u64, Arc<Stack>>,
    /// Those that no program recorded, of threads that were stuck before.
    found_kernel_stacks: HashMap<u64, Arc<Stack>>,
    /// Judging a stack means comparing many names, so it is done once for each.
    causes: HashMap<CauseKey, Cause>,
    /// User stacks as recorded, by process, to make room when it ends.
    user_stacks: HashMap<u32, HashMap<u64, RawStack>>,
    user_stacks_kept: usize,
    syscalls: SyscallNames,
    cgroups: Cgroups,
    io: Pending,
    goroutines: goroutine::Pending,
    starts: Starts,
}

/// What a cause depends on: the id of the kernel stack, and the rest of `Cause::classify`.
type CauseKey = (u64, Option<bool>, Mode, Option<MappingKind>);

/// What an event and an entry have in common.
struct Begun<'a> {
    flags: u32,
    tgid: u32,
    tid: u32,
    start_ns: u64,
    address: u64,
    error: u32,
    device: u32,
    inode: u64,
    page_offset: u64,
    user_stack: u64,
    stack_top: u64,
    kernel_stack: u64,
    syscall: u32,
    comm: &'a [u8; COMM_LEN],
    /// Whether it started the read that it waited for, as far as that is known when it is over.
    started: Option<bool>,
    slept: bool,
}

impl Enricher {
    /// Starts with nothing remembered.
    pub fn new(clock: Clock, labels: Labels) -> Self {
        Self {
            clock,
            labels,
            kernel_stacks: HashMap::new(),
            found_kernel_stacks: HashMap::new(),
            user_stacks: HashMap::new(),
            user_stacks_kept: 0,
            syscalls: SyscallNames::default(),
            causes: HashMap::new(),
            cgroups: Cgroups::default(),
            io: Pending::default(),
            goroutines: goroutine::Pending::default(),
            starts: Starts::default(),
        }
    }

    /// The lookups, for what is not about one fault.
    pub fn labels(&mut self) -> &mut Labels {
        &mut self.labels
    }

    /// Unix time in ns of a time the programs took.
    pub fn unix_ns(&self, monotonic_ns: u64) -> u64 {
        self.clock.unix_ns(monotonic_ns)
    }

    /// What devices did for a fault that comes next.
    pub fn io(&mut self, event: &IoEvent) {
        self.io.keep(*event);
    }

    /// What the thread of a fault that comes next was at.
    pub fn goroutine(&mut self, event: &GoroutineEvent) {
        self.goroutines.keep(event);
    }

    /// How many goroutines lack labels since this was last asked, because too many others came after them.
    pub fn take_labels_gone(&mut self) -> u64 {
        self.goroutines.take_labels_gone()
    }

    /// How many faults there were, since the last time, that waited for a read of their own of which no
    /// program saw the completion.
    pub fn take_unseen_completions(&mut self) -> u64 {
        self.io.take_unseen()
    }

    /// A fault that is over.
    pub fn fault(&mut self, event: &FaultEvent, stacks: &dyn Stacks) -> Fault {
        let major = event.flags & flag::MAJOR != 0;
        let mut facts = self.facts(
            &Begun {
                flags: event.flags,
                tgid: event.tgid,
                tid: event.tid,
                start_ns: event.start_ns,
                address: event.address,
                error: event.error,
                device: event.device,
                inode: event.inode,
                page_offset: event.page_offset,
                user_stack: event.user_stack,
                stack_top: event.stack_top,
                kernel_stack: event.kernel_stack,
                syscall: event.syscall,
                comm: &event.comm,
                started: started(event.flags, event.device),
                slept: event.sleeps > 0,
            },
            stacks,
        );
        let thread = (event.tgid, event.tid);
        facts.goroutine = self
            .goroutines
            .take(thread, event.start_ns, &mut self.labels, stacks);
        self.unwrap_start(&mut facts);
        let duration_ns = event.end_ns.saturating_sub(event.start_ns);
        let io = self.io.take(event.tid, event.start_ns, duration_ns);
        self.io.check(io.as_deref(), facts.cause);
        let blocked_ns = event.blocked_ns.min(duration_ns);
        let runqueue_ns = event.runqueue_ns.min(duration_ns - blocked_ns);
        let waker = waker(&event.longest_waker, |number| self.syscalls.name(number));
        let longest_sleep = longest_sleep(event, duration_ns, blocked_ns, runqueue_ns, waker);
        let end = if event.flags & flag::DIED != 0 {
            End::Died
        } else if event.flags & flag::APPROXIMATE_END != 0 {
            End::Approximate
        } else {
            End::Exact
        };
        Fault {
            facts,
            major,
            end_ns: self.clock.unix_ns(event.end_ns),
            duration_ns,
            blocked_ns,
            runqueue_ns,
            on_cpu_ns: duration_ns - blocked_ns - runqueue_ns,
            switches: event.switches,
            end,
            longest_sleep,
            history: None,
            io,
        }
    }

    /// The past of a page.
    pub fn history(&mut self, event: &HistoryEvent) -> History {
        history(event, self.clock, &mut self.syscalls, &mut self.cgroups)
    }

    /// A fault that still goes on, `now_ns` by the monotonic clock. `reads`: what was read for it so far.
    pub fn stuck(
        &mut self,
        entry: &Inflight,
        now_ns: u64,
        report: u32,
        reads: Option<&IoEvent>,
        stacks: &dyn Stacks,
    ) -> Stuck {
        let kernel_stack = if entry.last_kernel_stack == 0 {
            entry.kernel_stack
        } else {
            entry.last_kernel_stack
        };
        let mut facts = self.facts(
            &Begun {
                flags: entry.flags,
                tgid: entry.tgid,
                tid: entry.tid,
                start_ns: entry.start_ns,
                address: entry.address,
                error: entry.error,
                device: entry.device,
                inode: entry.inode,
                page_offset: entry.page_offset,
                user_stack: entry.user_stack,
                stack_top: entry.stack_top,
                kernel_stack,
                syscall: entry.syscall,
                comm: &entry.comm,
                started: None,
                slept: entry.sleeps > 0,
            },
            stacks,
        );
        let read = &entry.goroutine;
        facts.goroutine = self
            .goroutines
            .goroutine(entry.tgid, read, &mut self.labels, stacks);
        self.unwrap_start(&mut facts);
        let elapsed_ns = now_ns.saturating_sub(entry.start_ns);
        Stuck {
            facts,
            elapsed_ns,
            report,
            io: reads.map(|event| Box::new(self.io.io(event, elapsed_ns))),
        }
    }

    /// A stack that no program recorded: of a thread that was stuck before they were attached.
    pub fn register_user_stack(&mut self, tgid: u32, id: u64, stack: RawStack) {
        if self.user_stacks_kept < MAX_USER_STACKS {
            let of_process = self.user_stacks.entry(tgid).or_default();
            self.user_stacks_kept += usize::from(of_process.insert(id, stack).is_none());
        }
    }

    /// As [`Enricher::register_user_stack`], for a kernel stack.
    pub fn register_kernel_stack(&mut self, id: u64, stack: &RawStack) {
        if self.found_kernel_stacks.len() < MAX_KERNEL_STACKS {
            let named = self.named_kernel_stack(id, stack);
            self.found_kernel_stacks.insert(id, named);
        }
    }

    fn named_kernel_stack(&self, id: u64, stack: &RawStack) -> Arc<Stack> {
        let named = self.labels.kernel_stack(id, &stack.frames, stack.truncated);
        Arc::new(without_tracer(&named))
    }

    /// The function that the goroutine of a fault runs, if it is behind a wrapper.
    fn unwrap_start(&mut self, facts: &mut Facts) {
        if let Some(goroutine) = &mut facts.goroutine {
            let stack = facts.user_stack.as_deref();
            self.starts.unwrap(facts.pid, goroutine, stack);
        }
    }

    /// A process has replaced its program.
    pub fn process_exec(&mut self, tgid: u32) {
        self.labels.process_exec(tgid);
        self.starts.forget(tgid);
    }

    /// A process has ended: forgets it and returns the ids of its stacks, which will not be asked
    /// for again.
    pub fn forget(&mut self, tgid: u32) -> Vec<u64> {
        self.labels.forget(tgid);
        self.starts.forget(tgid);
        let gone = self.user_stacks.remove(&tgid).unwrap_or_default();
        self.user_stacks_kept -= gone.len();
        gone.into_keys().collect()
    }

    fn facts(&mut self, begun: &Begun<'_>, stacks: &dyn Stacks) -> Facts {
        let mode = mode_of(begun.flags);
        let place = self.place(begun);
        let user_stack = self.user_stack(begun, stacks);
        let kernel = self.kernel_stack(begun.kernel_stack, stacks);
        let cause = waited(begun.flags, begun.slept).then(|| match &kernel {
            None => Cause::Unknown,
            Some(kernel) => {
                let key = (begun.kernel_stack, begun.started, mode, place.mapping);
                let classify =
                    || Cause::classify(&functions(kernel), begun.started, mode, place.mapping);
                *self.causes.entry(key).or_insert_with(classify)
            }
        });
        let before = begun.flags & flag::NO_START != 0;
        let has_address = begun.flags & flag::HAS_ADDRESS != 0;
        Facts {
            begin_ns: (!before).then(|| self.clock.unix_ns(begun.start_ns)),
            pid: begun.tgid,
            tid: begun.tid,
            thread: name_of(begun.comm),
            mode,
            syscall: self.syscalls.name(begun.syscall),
            access: (has_address && begun.flags & flag::NO_ACCESS == 0)
                .then(|| access_of(begun.error)),
            address: has_address.then_some(begun.address),
            place,
            cause,
            began_before_attach: before,
            begin_approximate: begun.flags & flag::APPROXIMATE_START != 0,
            given_up: begun.flags & flag::GIVEN_UP != 0 && begun.flags & flag::DIED == 0,
            user_stack,
            kernel_stack: kernel,
            goroutine: None,
        }
    }

    fn place(&mut self, begun: &Begun<'_>) -> Place {
        let hint = (begun.flags & flag::HAS_FILE != 0).then_some(FileHint {
            dev: begun.device,
            ino: begun.inode,
            page_offset: begun.page_offset.saturating_mul(page_bytes()),
        });
        let address = (begun.flags & flag::HAS_ADDRESS != 0).then_some(begun.address);
        match (address, hint) {
            (None, None) => Place::default(),
            (address, hint) => self.labels.place(begun.tgid, address, hint),
        }
    }

    fn user_stack(&mut self, begun: &Begun<'_>, stacks: &dyn Stacks) -> Option<Arc<Stack>> {
        let (tgid, id) = (begun.tgid, begun.user_stack);
        if id == 0 {
            return None;
        }
        let known = self.user_stacks.get(&tgid).and_then(|of| of.get(&id));
        if let Some(raw) = known {
            let captured = captured(id, raw, begun.stack_top);
            return Some(self.labels.user_stack(tgid, captured));
        }
        let raw = stacks.stack(id)?;
        let captured = captured(id, &raw, begun.stack_top);
        let stack = self.labels.user_stack(tgid, captured);
        self.register_user_stack(tgid, id, raw);
        Some(stack)
    }

    fn kernel_stack(&mut self, id: u64, stacks: &dyn Stacks) -> Option<Arc<Stack>> {
        if id == 0 {
            return None;
        }
        let found = &self.found_kernel_stacks;
        if let Some(known) = self.kernel_stacks.get(&id).or_else(|| found.get(&id)) {
            return Some(Arc::clone(known));
        }
        let named = self.named_kernel_stack(id, &stacks.stack(id)?);
        if self.kernel_stacks.len() >= MAX_KERNEL_STACKS {
            self.kernel_stacks.clear();
            self.causes.clear();
        }
        self.kernel_stacks.insert(id, Arc::clone(&named));
        Some(named)
    }
}

/// A stack as it was recorded, by a program or by us.
fn captured(id: u64, raw: &RawStack, stack_top: u64) -> Captured<'_> {
    Captured {
        id,
        frames: &raw.frames,
        truncated: raw.truncated,
        top: if raw.top == 0 { stack_top } else { raw.top },
        ask_caller: true,
    }
}

/// Names of system calls by number.
#[derive(Default)]
pub(super) struct SyscallNames(HashMap<u32, Name>);

impl SyscallNames {
    /// `None` without a call, and of a number that has no name.
    pub(super) fn name(&mut self, number: u32) -> Option<Name> {
        if number == NO_SYSCALL {
            return None;
        }
        if let Some(known) = self.0.get(&number) {
            return Some(known.clone());
        }
        // Numbers without a name are not remembered: a process can make up any.
        let name = Name::from(Sysno::new(number as usize)?.name());
        self.0.insert(number, name.clone());
        Some(name)
    }
}

/// A `comm` without what follows its terminator.
pub fn name_of(comm: &[u8; COMM_LEN]) -> Name {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(COMM_LEN);
    Name::from(&comm[..end])
}
