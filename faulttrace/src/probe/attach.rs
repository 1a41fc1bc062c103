//! Loads and attaches each program on the best rung that the kernel grants.

use std::fmt;

use aya::programs::perf_event::{
    PerfEventConfig, PerfEventLinkId, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::programs::{BtfTracePoint, PerfEvent, Program, RawTracePoint};
use aya::util::online_cpus;

use super::{Error, Probe, chain, kernel, learn};

/// How a job is done. Best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// A typed tracepoint program.
    TpBtf,
    /// A raw tracepoint program.
    RawTracepoint,
    /// A perf software event, period 1, on each CPU.
    PerfEvent,
    /// A program run once for each of the kernel's objects.
    Iterator,
    /// No program, but other jobs tell most of it (`--light`).
    Inferred,
    /// No program: the job is done without, or not at all; `doctor` says what that costs.
    None,
}

impl fmt::Display for Rung {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Rung::TpBtf => "tp_btf",
            Rung::RawTracepoint => "raw_tracepoint",
            Rung::PerfEvent => "perf_event",
            Rung::Iterator => "iterator",
            Rung::Inferred => "inferred",
            Rung::None => "none",
        })
    }
}

/// A tracepoint that a program attaches to, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Stable name, as in `doctor` and JSON.
    pub name: &'static str,
    /// The tracepoint.
    pub tracepoint: &'static str,
    /// The typed program.
    pub typed: &'static str,
    /// The same on a raw tracepoint.
    pub raw: &'static str,
    /// Without it nothing true can be said.
    pub required: bool,
}

const fn job(
    name: &'static str,
    tracepoint: &'static str,
    programs: (&'static str, &'static str),
    required: bool,
) -> Job {
    Job {
        name,
        tracepoint,
        typed: programs.0,
        raw: programs.1,
        required,
    }
}

/// The job whose absence leaves the page's place to the memory map.
pub const FILE_PAGES: &str = "which_page";
/// Its tracepoint.
const FILE_FAULT: &str = "mm_filemap_fault";

/// The job that `--light` does without.
const FAULT_BEGINS: &str = "user_fault_begins";

/// Every tracepoint, in the order of attaching: what makes entries comes after what ends them, so
/// that nothing is left behind by a fault that straddles the attaching.
pub const JOBS: [Job; 10] = [
    job(
        "thread_exits",
        "sched_process_exit",
        ("process_exit", "process_exit_raw"),
        true,
    ),
    job(
        "process_execs",
        "sched_process_exec",
        ("process_exec", "process_exec_raw"),
        true,
    ),
    job(
        "process_forks",
        "sched_process_fork",
        ("process_fork", "process_fork_raw"),
        true,
    ),
    job(
        "process_renames",
        "task_rename",
        ("task_rename", "task_rename_raw"),
        false,
    ),
    job(
        FILE_PAGES,
        FILE_FAULT,
        ("filemap_fault", "filemap_fault_raw"),
        false,
    ),
    job(
        "fault_ends",
        "rseq_update",
        ("rseq_update", "rseq_update_raw"),
        false,
    ),
    job(
        "thread_woken",
        "sched_waking",
        ("sched_waking", "sched_waking_raw"),
        true,
    ),
    job(
        "thread_switches",
        "sched_switch",
        ("sched_switch", "sched_switch_raw"),
        true,
    ),
    job(
        "kernel_fault_begins",
        "page_fault_kernel",
        ("page_fault_kernel", "page_fault_kernel_raw"),
        false,
    ),
    job(
        FAULT_BEGINS,
        "page_fault_user",
        ("page_fault_user", "page_fault_user_raw"),
        true,
    ),
];

/// Stable name of the job that the perf software event does.
const MAJOR_JOB: &str = "major_fault_ends";
/// Its program.
const MAJOR_PROGRAM: &str = "page_faults_maj";

impl Probe {
    /// Loads every program and attaches it. From here on faults are seen. `before_majors` is called
    /// right before major faults are, once everything that takes long is done: whoever compares
    /// their number with the kernel's reads the kernel's then.
    pub fn attach(&mut self, before_majors: impl FnOnce()) -> Result<(), Error> {
        if self.settings.light && !self.types.has_tracepoint(FILE_FAULT) {
            return Err(Error::LightUnavailable);
        }
        self.perf_event("thread_clock", "thread_clock")?
            .load()
            .map_err(|error| refused("thread_clock", &error))?;
        let cpus = online_cpus().map_err(|(_, error)| Error::Cpus(error))?;
        self.perf_event(MAJOR_PROGRAM, MAJOR_JOB)?
            .load()
            .map_err(|error| refused(MAJOR_JOB, &error))?;
        // Loading takes a while, attaching does not: so that all begin at nearly the same time.
        let mut loaded = Vec::with_capacity(JOBS.len());
        for job in JOBS {
            loaded.push((job, self.load_job(job)?));
        }
        for (job, rung) in loaded {
            let rung = self.attach_job(job, rung)?;
            self.rungs.push((job.name, rung));
        }
        if self.settings.light {
            learn::fault_on_a_file();
        }
        before_majors();
        self.attach_majors(&cpus)?;
        self.rungs.push((MAJOR_JOB, Rung::PerfEvent));
        Ok(())
    }

    /// Loads the best program that the kernel grants.
    fn load_job(&mut self, job: Job) -> Result<Rung, Error> {
        if self.settings.light && job.name == FAULT_BEGINS {
            return Ok(Rung::Inferred);
        }
        if !self.wanted(job) {
            return Ok(Rung::None);
        }
        if self.settings.force_raw {
            return self.fall_back(job, "raw tracepoints were asked for", Self::load_raw);
        }
        match self.load_typed(job) {
            Ok(()) => Ok(Rung::TpBtf),
            Err(why_not) => self.fall_back(job, &why_not, Self::load_raw),
        }
    }

    /// Attaches what was loaded, or the next best.
    fn attach_job(&mut self, job: Job, rung: Rung) -> Result<Rung, Error> {
        match rung {
            Rung::TpBtf => match self.attach_typed(job) {
                Ok(()) => Ok(Rung::TpBtf),
                Err(why_not) => self.fall_back(job, &why_not, |probe, job| {
                    probe.load_raw(job)?;
                    probe.attach_raw(job)
                }),
            },
            Rung::RawTracepoint => self.fall_back(job, "loaded so", Self::attach_raw),
            other => Ok(other),
        }
    }

    /// The raw tracepoint instead of the typed one, or nothing if the job can be done without.
    fn fall_back(
        &mut self,
        job: Job,
        why_not: &str,
        take: impl FnOnce(&mut Self, Job) -> Result<(), String>,
    ) -> Result<Rung, Error> {
        match take(self, job) {
            Ok(()) => {
                log::info!("{}: raw tracepoint, because: {why_not}", job.name);
                Ok(Rung::RawTracepoint)
            }
            Err(reason) if job.required => Err(Error::Program {
                job: job.name,
                reason: format!("tp_btf: {why_not}; raw tracepoint: {reason}"),
            }),
            Err(reason) => {
                log::info!("{}: none, because: {why_not}; {reason}", job.name);
                Ok(Rung::None)
            }
        }
    }

    /// Whether the job has anything to do with these settings on this kernel.
    fn wanted(&self, job: Job) -> bool {
        let names = self.settings.filter.comm.is_some();
        let children = kernel::mode(&self.settings.filter) == faulttrace_ebpf::filter::SET
            && (names || self.settings.filter.follow);
        match job.tracepoint {
            "task_rename" => names,
            "sched_process_fork" => children,
            // A required one is tried all the same, so that the kernel's own words are shown.
            tracepoint => job.required || self.types.has_tracepoint(tracepoint),
        }
    }

    fn load_typed(&mut self, job: Job) -> Result<(), String> {
        let program = self.ebpf.program_mut(job.typed).ok_or("no such program")?;
        let program: &mut BtfTracePoint = program.try_into().map_err(|error| chain(&error))?;
        program
            .load(job.tracepoint, &self.btf)
            .map_err(|error| chain(&error))
    }

    fn attach_typed(&mut self, job: Job) -> Result<(), String> {
        let program = self.ebpf.program_mut(job.typed).ok_or("no such program")?;
        let program: &mut BtfTracePoint = program.try_into().map_err(|error| chain(&error))?;
        program.attach().map(drop).map_err(|error| chain(&error))
    }

    fn raw(&mut self, job: Job) -> Result<&mut RawTracePoint, String> {
        let program = self.ebpf.program_mut(job.raw).ok_or("no such program")?;
        program.try_into().map_err(|error| chain(&error))
    }

    fn load_raw(&mut self, job: Job) -> Result<(), String> {
        self.raw(job)?.load().map_err(|error| chain(&error))
    }

    fn attach_raw(&mut self, job: Job) -> Result<(), String> {
        let attached = self.raw(job)?.attach(job.tracepoint);
        attached.map(drop).map_err(|error| chain(&error))
    }

    fn attach_majors(&mut self, cpus: &[u32]) -> Result<(), Error> {
        let program = self.perf_event(MAJOR_PROGRAM, MAJOR_JOB)?;
        for cpu in cpus {
            let event = PerfEventConfig::Software(SoftwareEvent::PageFaultsMaj);
            let scope = PerfEventScope::AllProcessesOneCpu { cpu: *cpu };
            program
                .attach(event, scope, SamplePolicy::Period(1), false)
                .map_err(|error| refused(MAJOR_JOB, &error))?;
        }
        Ok(())
    }

    /// Major faults are not seen any more; the counterpart of `before_majors`.
    pub fn detach_majors(&mut self) -> Result<(), Error> {
        self.perf_event(MAJOR_PROGRAM, MAJOR_JOB)?
            .unload()
            .map_err(|error| refused(MAJOR_JOB, &error))
    }

    /// Has the kernel look at one thread each `period_ns` of its CPU time, to end a fault that
    /// nothing else told the end of. Undo with [`Probe::unwatch`].
    pub fn watch(&mut self, tid: u32, period_ns: u64) -> Result<PerfEventLinkId, Error> {
        let event = PerfEventConfig::Software(SoftwareEvent::TaskClock);
        let scope = PerfEventScope::OneProcess {
            pid: tid,
            cpu: None,
        };
        self.thread_clock()?
            .attach(event, scope, SamplePolicy::Period(period_ns), false)
            .map_err(|error| refused("thread_clock", &error))
    }

    /// Ends what [`Probe::watch`] began.
    pub fn unwatch(&mut self, link: PerfEventLinkId) -> Result<(), Error> {
        self.thread_clock()?
            .detach(link)
            .map_err(|error| refused("thread_clock", &error))
    }

    fn thread_clock(&mut self) -> Result<&mut PerfEvent, Error> {
        self.perf_event("thread_clock", "thread_clock")
    }

    fn perf_event(
        &mut self,
        program: &'static str,
        job: &'static str,
    ) -> Result<&mut PerfEvent, Error> {
        let missing = || Error::Program {
            job,
            reason: "no such program in the object".to_owned(),
        };
        let program = self.ebpf.program_mut(program).ok_or_else(missing)?;
        program.try_into().map_err(|error| refused(job, &error))
    }

    /// Detaches every program. Counters, stacks and entries can still be read.
    pub fn detach(&mut self) {
        for (_, program) in self.ebpf.programs_mut() {
            // Unloading drops the links; one that was never loaded has nothing to unload.
            let _ = match program {
                Program::BtfTracePoint(program) => program.unload(),
                Program::RawTracePoint(program) => program.unload(),
                Program::PerfEvent(program) => program.unload(),
                _ => Ok(()),
            };
        }
    }
}

fn refused(job: &'static str, error: &dyn std::error::Error) -> Error {
    Error::Program {
        job,
        reason: chain(error),
    }
}
