//! Records of a ring, with anything in them, on their way through decoding and naming to all that
//! shows them. What the session does with them is done here in the same order, without a kernel.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use faulttrace::ingest::{Beside, Clock, Decoded, Enricher, Stacks, decode, name_of};
use faulttrace::model::{Fault, ProcessEnd, ProcessInfo, Record};
use faulttrace::probe::RawStack;
use faulttrace::process::Labels;
use faulttrace::process::kernel::KernelSymbols;
use faulttrace::process::maps;
use faulttrace::process::space::Snapshot;
use faulttrace_ebpf::goroutine::{self, Goroutine, KEY_LEN, Label, MAX_LABELS, VALUE_LEN};
use faulttrace_ebpf::{
    FaultEvent, HistoryEvent, Inflight, IoEvent, MAX_FRAMES, TaskEvent, flag, kind,
};

use crate::consume::Shown;

/// Beyond the ids that Linux gives, so that no process of this machine is asked.
const FIRST_PID: u32 = 0x4000_0000;
const PIDS: u32 = 4;
/// Ids of stacks that records refer to.
const STACK_IDS: u64 = 8;
/// Functions of a kernel that decide what a stack means, 256 bytes each.
const FUNCTIONS: [&str; 16] = [
    "asm_exc_page_fault",
    "exc_page_fault",
    "handle_mm_fault",
    "filemap_fault",
    "folio_wait_bit_common",
    "__schedule",
    "io_schedule",
    "fuse_simple_request",
    "handle_userfault",
    "do_swap_page",
    "rwsem_down_read_slowpath",
    "try_to_free_pages",
    "__x64_sys_read",
    "bpf_trace_run4",
    "wp_page_copy",
    "do_syscall_64",
];
const KERNEL_BASE: u64 = 0xffff_ffff_8100_0000;

/// What `/proc/PID/maps` would say.
static MAPS: Mutex<Option<HashMap<u32, Vec<u8>>>> = Mutex::new(None);

fn read_map(pid: u32) -> io::Result<Snapshot> {
    let all = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    let text = all.as_ref().and_then(|all| all.get(&pid));
    let text = text.ok_or(io::ErrorKind::NotFound)?;
    Ok(Snapshot {
        mappings: maps::parse(text).0,
        own_pid: 1,
        uid: 0,
        took: Duration::ZERO,
    })
}

#[derive(Default)]
struct Recorded(HashMap<u64, RawStack>);

impl Stacks for Recorded {
    fn stack(&self, id: u64) -> Option<RawStack> {
        self.0.get(&id).cloned()
    }

    fn go_labels(&self, id: u64) -> Option<goroutine::Labels> {
        // Whatever the program wrote: made of the id.
        let bytes = id.to_le_bytes();
        let label = Label {
            key_len: u32::try_from(id % 100).unwrap_or(0),
            value_len: u32::try_from(id >> 32).unwrap_or(0),
            key: [bytes[0]; KEY_LEN],
            value: [bytes[1]; VALUE_LEN],
        };
        Some(goroutine::Labels {
            count: u32::from(bytes[2]),
            padding: 0,
            labels: [label; MAX_LABELS],
        })
    }
}

/// Runs what the input says: a list of steps, each a number of what to do, a length, and that many
/// bytes. Says how many records were shown.
pub fn ring(mut input: &[u8]) -> usize {
    *MAPS.lock().unwrap_or_else(PoisonError::into_inner) = Some(HashMap::new());
    let mut session = Session::new();
    while let [what, length, rest @ ..] = input {
        // Records are some hundred bytes long, maps may be longer.
        let length = (usize::from(*length) * 2).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        input = rest;
        session.step(*what, bytes);
    }
    session.shown.finish()
}

struct Session {
    enricher: Enricher,
    histories: Beside<HistoryEvent>,
    recorded: Recorded,
    known: Vec<u32>,
    shown: Shown,
}

impl Session {
    fn new() -> Self {
        let symbols: String = (0_u64..)
            .zip(FUNCTIONS)
            .map(|(at, name)| format!("{:x} T {name}\n", KERNEL_BASE + at * 256))
            .collect();
        let Ok(clock) = Clock::new() else {
            panic!("every Linux has these clocks");
        };
        let symbols = KernelSymbols::parse(symbols + "ffffffffffffff00 T end\n");
        Self {
            enricher: Enricher::new(clock, Labels::of_maps(symbols, read_map)),
            histories: Beside::default(),
            recorded: Recorded::default(),
            known: Vec::new(),
            shown: Shown::default(),
        }
    }

    fn step(&mut self, what: u8, bytes: &[u8]) {
        let pid = FIRST_PID + u32::from(what / 8) % PIDS;
        match what % 8 {
            // As it comes.
            0 => self.decoded(decode(bytes).ok()),
            // As long as it ought to be, and about what else there is.
            1 | 2 => self.decoded(
                decode(&record(kind::FAULT, bytes, size_of::<FaultEvent>()))
                    .ok()
                    .map(|event| about(event, pid)),
            ),
            3 => {
                let kinds = [kind::EXIT, kind::EXEC, kind::ADDED];
                let found = bytes
                    .first()
                    .and_then(|byte| kinds.get(usize::from(byte % 3)));
                let record = record(*found.unwrap_or(&kind::EXIT), bytes, size_of::<TaskEvent>());
                self.decoded(decode(&record).ok().map(|event| about(event, pid)));
            }
            4 => {
                let mut all = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
                let text = all.get_or_insert_default().entry(pid).or_default();
                text.extend_from_slice(bytes);
            }
            5 | 6 => self.stack(what % 8 == 5, bytes),
            _ => self.stuck(pid, bytes),
        }
    }

    fn stack(&mut self, of_kernel: bool, bytes: &[u8]) {
        let [id, rest @ ..] = bytes else { return };
        let frame = |bytes: &[u8]| {
            let number = bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte));
            if of_kernel {
                KERNEL_BASE.wrapping_add(number)
            } else {
                number
            }
        };
        let size = if of_kernel { 2 } else { 8 };
        let frames: Vec<u64> = rest.chunks(size).take(MAX_FRAMES).map(frame).collect();
        let stack = RawStack {
            truncated: frames.len() == MAX_FRAMES,
            frames,
            tgid: 0,
            top: 0,
        };
        self.recorded
            .0
            .insert(1 + u64::from(*id) % STACK_IDS, stack);
    }

    fn decoded(&mut self, decoded: Option<Decoded>) {
        match decoded {
            None | Some(Decoded::Unknown(_)) => {}
            Some(Decoded::Fault(event)) => {
                self.introduce(event.tgid, &event.comm);
                let mut fault = self.enricher.fault(&event, &self.recorded);
                let history = self.histories.take(event.tid, event.start_ns);
                fault.history = history.map(|event| Box::new(self.enricher.history(&event)));
                check(&fault);
                self.shown.take(&Record::Fault(Arc::new(fault)));
            }
            Some(Decoded::Io(event)) => self.enricher.io(&event),
            Some(Decoded::Goroutine(event)) => self.enricher.goroutine(&event),
            Some(Decoded::Task(event)) => self.task(&event),
            Some(Decoded::History(event)) => {
                self.histories.keep(event.tid, event.start_ns, event);
            }
        }
    }

    fn task(&mut self, event: &TaskEvent) {
        let pid = event.tgid;
        match event.kind {
            kind::EXEC => {
                self.enricher.labels().process_exec(pid);
                self.known.retain(|known| *known != pid);
                self.introduce(pid, &event.comm);
            }
            kind::ADDED => self.introduce(pid, &event.comm),
            _ if event.flags & flag::GROUP_DEAD != 0 => {
                for id in self.enricher.forget(pid) {
                    self.recorded.0.remove(&id);
                }
                let time_ns = self.enricher.unix_ns(event.time_ns);
                self.shown
                    .take(&Record::ProcessEnd(ProcessEnd { pid, time_ns }));
            }
            _ => {}
        }
    }

    fn introduce(&mut self, pid: u32, comm: &[u8; 16]) {
        if self.known.contains(&pid) {
            return;
        }
        self.known.push(pid);
        self.enricher.labels().watch(pid);
        let name = name_of(comm);
        self.shown.take(&Record::Process(Arc::new(ProcessInfo {
            pid,
            name,
            exe: None,
        })));
    }

    fn stuck(&mut self, pid: u32, bytes: &[u8]) {
        let Some(Decoded::Fault(event)) =
            decode(&record(kind::FAULT, bytes, size_of::<FaultEvent>()))
                .ok()
                .map(|event| about(event, pid))
        else {
            return;
        };
        let entry = entry_of(&event);
        let stuck = self
            .enricher
            .stuck(&entry, event.end_ns, event.switches, None, &self.recorded);
        self.shown.take(&Record::Stuck(Arc::new(stuck)));
    }
}

/// What a record says must add up, whatever the ring said.
fn check(fault: &Fault) {
    let sum =
        u128::from(fault.blocked_ns) + u128::from(fault.runqueue_ns) + u128::from(fault.on_cpu_ns);
    assert_eq!(sum, u128::from(fault.duration_ns));
    if let Some(sleep) = &fault.longest_sleep {
        assert!(sleep.blocked_ns <= fault.blocked_ns && sleep.runqueue_ns <= fault.runqueue_ns);
        assert!(sleep.after_ns <= fault.duration_ns);
    }
    if let Some(last) = fault.io.as_ref().and_then(|io| io.last) {
        assert!(last.queued_ns <= fault.duration_ns - last.served_ns);
    }
}

fn record(kind: u32, bytes: &[u8], size: usize) -> Vec<u8> {
    let mut record = bytes.to_vec();
    record.resize(size, 0);
    record[..4].copy_from_slice(&kind.to_ne_bytes());
    record
}

/// The same of a process, and with stacks, that are known.
fn about(event: Decoded, pid: u32) -> Decoded {
    match event {
        Decoded::Fault(event) => Decoded::Fault(FaultEvent {
            tgid: pid,
            user_stack: event.user_stack % (STACK_IDS + 1),
            kernel_stack: event.kernel_stack % (STACK_IDS + 1),
            ..event
        }),
        Decoded::Task(event) => Decoded::Task(TaskEvent { tgid: pid, ..event }),
        // No device of this machine.
        Decoded::Io(event) => Decoded::Io(IoEvent {
            device: event.device | 0xfff << 20,
            ..event
        }),
        other => other,
    }
}

fn entry_of(event: &FaultEvent) -> Inflight {
    Inflight {
        start_ns: event.start_ns,
        address: event.address,
        out_ns: event.end_ns,
        wake_ns: 0,
        in_ns: 0,
        blocked_ns: event.blocked_ns,
        runqueue_ns: event.runqueue_ns,
        longest_sleep_ns: event.longest_sleep_ns,
        longest_out_ns: event.longest_out_ns,
        longest_runqueue_ns: event.longest_runqueue_ns,
        kernel_stack: event.kernel_stack,
        last_kernel_stack: 0,
        user_stack: event.user_stack,
        stack_top: event.stack_top,
        inode: event.inode,
        page_offset: event.page_offset,
        device: event.device,
        tgid: event.tgid,
        tid: event.tid,
        error: event.error,
        flags: event.flags,
        switches: event.switches,
        sleeps: event.sleeps,
        maj_flt: 0,
        syscall: event.syscall,
        asleep: 1,
        completed: 0,
        read_bytes: 0,
        waker: event.longest_waker,
        longest_waker: event.longest_waker,
        comm: event.comm,
        goroutine: Goroutine {
            flags: event.error,
            p: event.device,
            id: event.inode,
            start_pc: event.address,
            go_pc: event.page_offset,
            procs: event.syscall,
            local: event.switches,
            global: event.sleeps,
            padding: 0,
            labels: event.start_ns,
        },
    }
}
