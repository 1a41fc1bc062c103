//! Loads and attaches each program on the best rung that the kernel grants.

use aya::Ebpf;
use aya::programs::perf_event::{
    PerfEventConfig, PerfEventLinkId, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::programs::{BtfTracePoint, FExit, PerfEvent, Program, ProgramError, RawTracePoint};
use aya::util::online_cpus;

use super::jobs::{
    FAULT_BEGINS, FAULT_ENDS, FILE_FAULT, HANDLER, JOBS, Job, KERNEL_FAULT_BEGINS, Need, Rung,
    is_begin,
};
use super::machine::MACHINE;
use super::{Ends, Error, Probe, Tracepoints, block, cache, chain, kernel, learn, maps, skipped};

/// The program at its return.
const HANDLED_PROGRAM: &str = "fault_handled";

/// Stable name of the job that the perf software event does.
const MAJOR_JOB: &str = "major_fault_ends";
/// Its program.
const MAJOR_PROGRAM: &str = "page_faults_maj";
/// The program at the event of all faults.
const BEGUN_PROGRAM: &str = "page_faults";

/// A job on its way down the ladder.
struct Attempt {
    job: Job,
    /// Rungs that were not tried.
    left: std::vec::IntoIter<Rung>,
    /// Why others were left.
    refused: Vec<String>,
}

impl Attempt {
    fn new(job: Job, candidates: Vec<Rung>) -> Self {
        Self {
            job,
            left: candidates.into_iter(),
            refused: Vec::new(),
        }
    }

    fn reasons(&self) -> String {
        if self.refused.is_empty() {
            format!("there is no tracepoint {}", self.job.tracepoint)
        } else {
            self.refused.join("; ")
        }
    }
}

impl Probe {
    /// Loads every program and attaches it. From here on faults are seen. `before_majors` is called
    /// right before major faults are, once everything that takes long is done: whoever compares
    /// their number with the kernel's reads the kernel's then.
    pub fn attach(&mut self, before_majors: impl FnOnce()) -> Result<(), Error> {
        self.check_wishes()?;
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
            let mut attempt = Attempt::new(job, self.candidates(job));
            let rung = self.load_next(&mut attempt)?;
            loaded.push((attempt, rung));
        }
        for (attempt, rung) in loaded {
            let name = attempt.job.name;
            let rung = self.attach_job(attempt, rung)?;
            self.rungs.push((name, rung));
        }
        self.learn()?;
        before_majors();
        self.attach_on_each(
            &cpus,
            MAJOR_PROGRAM,
            MAJOR_JOB,
            SoftwareEvent::PageFaultsMaj,
        )?;
        self.rungs.push((MAJOR_JOB, Rung::PerfEvent));
        Ok(())
    }

    /// Whether this kernel has what the options need.
    fn check_wishes(&self) -> Result<(), Error> {
        let settings = &self.settings;
        if settings.light && !MACHINE.entry_below_registers {
            return Err(Error::LightMachine);
        }
        if settings.light && !self.tells_pages() {
            return Err(Error::LightUnavailable);
        }
        if settings.evictions
            && let Some(lack) = self.evictions_lack()
        {
            return Err(Error::EvictionsUnavailable(lack));
        }
        if settings.io
            && let Some(lack) = block::lacks(&self.types)
        {
            return Err(Error::IoUnavailable(lack));
        }
        Ok(())
    }

    /// Whether a tracepoint tells which page of a file a fault is about.
    fn tells_pages(&self) -> bool {
        self.types.has_tracepoint(FILE_FAULT) && !self.settings.forced.no_pages
    }

    /// Lets the programs learn where on the stack the kernel keeps what it handles.
    fn learn(&self) -> Result<(), Error> {
        let light = self.settings.light;
        let useful = self.tells_pages() && kernel::begins_by_event(&self.settings, &self.types);
        if !light && !useful {
            return Ok(());
        }
        learn::fault_on_a_file().map_err(Error::OwnFault)?;
        let learnt = maps::first_word(&self.ebpf, "VM_FAULT_BELOW")? != 0;
        match (learnt, light) {
            (true, _) => Ok(()),
            (false, true) => Err(Error::LightUnlearned),
            (false, false) => {
                log::info!("whether faults read or write is not known on this kernel");
                Ok(())
            }
        }
    }

    /// What `--evictions` lacks here; which page a fault is about may be forced to be unknown.
    fn evictions_lack(&self) -> Option<String> {
        let forced = self.settings.forced.no_pages;
        let pages = || format!("the tracepoint filemap:{FILE_FAULT}");
        forced
            .then(pages)
            .or_else(|| cache::evictions_lack(&self.types))
    }

    /// How a job may be done with these settings on this kernel, best first.
    fn candidates(&self, job: Job) -> Vec<Rung> {
        let forced = self.settings.forced;
        let light = self.settings.light;
        if light && job.name == FAULT_BEGINS {
            return vec![Rung::Inferred];
        }
        if is_begin(job.name) && kernel::begins_by_event(&self.settings, &self.types) {
            return vec![Rung::PerfEvent];
        }
        let by_tracepoint = match forced.tracepoints {
            _ if !self.wanted(job) => Vec::new(),
            Some(Tracepoints::Typed) => vec![Rung::TpBtf],
            Some(Tracepoints::Raw) => vec![Rung::RawTracepoint],
            None => vec![Rung::TpBtf, Rung::RawTracepoint],
        };
        match (job.name, forced.ends) {
            (FAULT_ENDS, Some(Ends::Fexit)) => vec![Rung::Fexit],
            (FAULT_ENDS, Some(Ends::Unseen)) => Vec::new(),
            // With `--light`, no program runs at each fault, at its end neither.
            (FAULT_ENDS, None) if forced.tracepoints.is_none() && !light => {
                [vec![Rung::Fexit], by_tracepoint].concat()
            }
            _ => by_tracepoint,
        }
    }

    /// Loads the best program that was not refused yet.
    fn load_next(&mut self, attempt: &mut Attempt) -> Result<Rung, Error> {
        for rung in attempt.left.by_ref() {
            match self.load_on(attempt.job, rung) {
                Ok(()) => return Ok(rung),
                Err(reason) => attempt.refused.push(format!("{rung}: {reason}")),
            }
        }
        self.do_without(attempt)
    }

    /// Attaches what was loaded, or the next best.
    fn attach_job(&mut self, mut attempt: Attempt, mut rung: Rung) -> Result<Rung, Error> {
        while rung != Rung::None {
            match self.attach_on(attempt.job, rung) {
                Ok(()) if attempt.refused.is_empty() => break,
                Ok(()) => {
                    log::info!(
                        "{}: {rung}, because {}",
                        attempt.job.name,
                        attempt.reasons()
                    );
                    break;
                }
                Err(reason) => {
                    attempt.refused.push(format!("{rung}: {reason}"));
                    rung = self.load_next(&mut attempt)?;
                }
            }
        }
        Ok(rung)
    }

    /// No rung is left, or none was wanted: the job is not done, if it can be done without and nobody
    /// asked for more.
    fn do_without(&self, attempt: &Attempt) -> Result<Rung, Error> {
        let (job, forced) = (attempt.job, self.settings.forced);
        let ends = job.name == FAULT_ENDS && matches!(forced.ends, Some(Ends::Fexit | Ends::Rseq));
        let refused = forced.tracepoints.is_some() && !attempt.refused.is_empty();
        if ends || refused {
            return Err(Error::Forced {
                job: job.name,
                reason: attempt.reasons(),
            });
        }
        // Who asks for these is not to take their absence for there being nothing.
        if job.need != Need::Useful && !attempt.refused.is_empty() {
            return Err(Error::Program {
                job: job.name,
                reason: attempt.reasons(),
            });
        }
        if !attempt.refused.is_empty() {
            log::info!("{}: none, because {}", job.name, attempt.reasons());
        }
        Ok(Rung::None)
    }

    /// Whether the job has anything to do with these settings on this kernel.
    fn wanted(&self, job: Job) -> bool {
        let names = self.settings.filter.comm.is_some();
        let children = kernel::mode(&self.settings.filter) == faulttrace_ebpf::filter::SET
            && (names || self.settings.filter.follow);
        match (job.need, job.tracepoint) {
            (Need::Evictions, _) => self.settings.evictions,
            (Need::Io, _) => self.settings.io,
            (_, FILE_FAULT) if self.settings.forced.no_pages => false,
            (_, "task_rename") => names,
            (_, "sched_process_fork") => children,
            // A required one is tried all the same, so that the kernel's own words are shown.
            (Need::Required, _) => true,
            (Need::Useful, tracepoint) => self.types.has_tracepoint(tracepoint),
        }
    }

    fn load_on(&mut self, job: Job, rung: Rung) -> Result<(), String> {
        let loaded = match rung {
            Rung::Inferred => return Ok(()),
            Rung::Fexit => {
                self.types.handler.map_err(|error| error.to_string())?;
                let program: &mut FExit = program(&mut self.ebpf, HANDLED_PROGRAM)?;
                program.load(HANDLER, &self.btf)
            }
            Rung::TpBtf => {
                let program: &mut BtfTracePoint = program(&mut self.ebpf, job.typed)?;
                program.load(job.tracepoint, &self.btf)
            }
            Rung::PerfEvent if job.name == KERNEL_FAULT_BEGINS => return Ok(()),
            Rung::PerfEvent => program::<PerfEvent>(&mut self.ebpf, BEGUN_PROGRAM)?.load(),
            _ => program::<RawTracePoint>(&mut self.ebpf, job.raw)?.load(),
        };
        loaded.map_err(|error| chain(&error))
    }

    fn attach_on(&mut self, job: Job, rung: Rung) -> Result<(), String> {
        let attached = match rung {
            Rung::Inferred => return Ok(()),
            Rung::Fexit => program::<FExit>(&mut self.ebpf, HANDLED_PROGRAM)?
                .attach()
                .map(drop),
            Rung::TpBtf => program::<BtfTracePoint>(&mut self.ebpf, job.typed)?
                .attach()
                .map(drop),
            // One event tells of both modes.
            Rung::PerfEvent if job.name == KERNEL_FAULT_BEGINS => return Ok(()),
            Rung::PerfEvent => {
                let cpus = online_cpus().map_err(|(_, error)| error.to_string())?;
                let event = SoftwareEvent::PageFaults;
                let attached = self.attach_on_each(&cpus, BEGUN_PROGRAM, FAULT_BEGINS, event);
                return attached.map_err(|error| error.to_string());
            }
            _ => program::<RawTracePoint>(&mut self.ebpf, job.raw)?
                .attach(job.tracepoint)
                .map(drop),
        };
        attached.map_err(|error| chain(&error))
    }

    /// Has a program run at each of these events, on these CPUs.
    fn attach_on_each(
        &mut self,
        cpus: &[u32],
        program: &'static str,
        job: &'static str,
        event: SoftwareEvent,
    ) -> Result<(), Error> {
        let program = self.perf_event(program, job)?;
        for cpu in cpus {
            let event = PerfEventConfig::Software(event);
            let scope = PerfEventScope::AllProcessesOneCpu { cpu: *cpu };
            program
                .attach(event, scope, SamplePolicy::Period(1), false)
                .map_err(|error| refused(job, &error))?;
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
        // Of programs that are not loaded the kernel tells nothing.
        self.skipped = Some(skipped::runs(&self.ebpf));
        for (_, program) in self.ebpf.programs_mut() {
            // Unloading drops the links; one that was never loaded has nothing to unload.
            let _ = match program {
                Program::BtfTracePoint(program) => program.unload(),
                Program::FExit(program) => program.unload(),
                Program::RawTracePoint(program) => program.unload(),
                Program::PerfEvent(program) => program.unload(),
                _ => Ok(()),
            };
        }
    }
}

/// A program of the object, as what it must be.
fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T, String>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or("no such program")?;
    program.try_into().map_err(|error| chain(&error))
}

fn refused(job: &'static str, error: &dyn std::error::Error) -> Error {
    Error::Program {
        job,
        reason: chain(error),
    }
}
