//! Which rung each job takes on this kernel, and what that costs.

use std::borrow::Cow;

use super::facts::{Facts, Lockdown};
use crate::probe::{
    FAULT_ENDS, HANDLER, JOBS, Job, KERNEL_FAULT_BEGINS, KernelTypes, Need, Rung, STUCK_JOB,
    begins_rung, evictions_lack, is_begin,
};

/// A job of the probe and the rung it takes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobRung {
    pub(super) name: &'static str,
    /// What the program is attached to.
    pub(super) attached_to: &'static str,
    pub(super) rung: Rung,
    pub(super) required: bool,
    pub(super) note: Cow<'static, str>,
}

/// Whether the job can be done with what the kernel has.
fn is_possible(job: &Job, types: &KernelTypes) -> bool {
    match job.need {
        Need::Evictions => evictions_lack(types).is_none(),
        Need::Io => types.block.is_ok() && types.has_tracepoint(job.tracepoint),
        Need::Required | Need::Useful => types.has_tracepoint(job.tracepoint),
    }
}

/// What to say of a job that can be done, or cannot.
fn note(job: &Job, there: bool) -> &'static str {
    match (job.need, there) {
        (Need::Evictions, true) => return "only with --evictions",
        (Need::Evictions, false) => return "--evictions is not to be had (kernel 6.12 has it)",
        (Need::Io, true) => return "only with --io",
        (Need::Io, false) => return "--io cannot work without it",
        (Need::Required | Need::Useful, _) => {}
    }
    match (job.tracepoint, there) {
        ("mm_filemap_fault", false) => {
            "file and offset come from the memory map alone; without an exception, faults are seen only where they sleep in state D (kernel 6.12 has it)"
        }
        ("page_cache_async_ra", false) => {
            "of some faults that a signal ends, it is not told who read the page (kernel 6.18 has it)"
        }
        ("page_fault_kernel", false) => "faults inside system calls are not seen",
        _ => "",
    }
}

/// The rung of each job, as far as the kernel's types tell; empty if they could not be read.
pub(super) fn ladder(facts: &Facts) -> Vec<JobRung> {
    let Some(Ok(types)) = &facts.types else {
        return Vec::new();
    };
    let mut jobs: Vec<JobRung> = JOBS
        .iter()
        .map(|job| {
            let there = is_possible(job, types);
            JobRung {
                name: job.name,
                attached_to: job.tracepoint,
                rung: if there { Rung::TpBtf } else { Rung::None },
                required: job.need == Need::Required,
                note: note(job, there).into(),
            }
        })
        .map(|job| match job.name {
            FAULT_ENDS => fault_ends(job, facts),
            name if is_begin(name) => fault_begins(job, begins_rung(types), facts),
            _ => job,
        })
        .collect();
    let majors = if facts.perf_event.is_ok() {
        Rung::PerfEvent
    } else {
        Rung::None
    };
    jobs.push(JobRung {
        name: "major_fault_ends",
        attached_to: "PAGE_FAULTS_MAJ",
        rung: majors,
        required: true,
        note: "".into(),
    });
    jobs.push(JobRung {
        name: STUCK_JOB,
        attached_to: "iterator over tasks",
        rung: if types.task_iterator {
            Rung::Iterator
        } else {
            Rung::None
        },
        required: false,
        note: Cow::Borrowed(if types.task_iterator {
            "runs once, and only if a thread is stuck already"
        } else {
            "of threads that were stuck before, neither address nor file is known (kernel 5.8 has it)"
        }),
    });
    jobs
}

/// A job that takes an event where there is no tracepoint, which is of use only together with another job's:
/// then it is that one's program.
fn fault_begins(mut job: JobRung, rung: Rung, facts: &Facts) -> JobRung {
    if rung == Rung::PerfEvent && facts.perf_event.is_ok() {
        job.rung = rung;
        job.attached_to = "PAGE_FAULTS";
        job.note = if job.name == KERNEL_FAULT_BEGINS {
            "the program of user_fault_begins does this, too".into()
        } else {
            "whether a fault read or wrote is known only if it slept, in user mode, on 6.12 or newer; costs each fault of the machine more than a tracepoint would".into()
        };
    }
    job
}

/// The job whose best rung is no tracepoint. `job`: what its tracepoint offers.
fn fault_ends(mut job: JobRung, facts: &Facts) -> JobRung {
    let refusal = match &facts.fexit {
        Some(Ok(())) => {
            job.attached_to = HANDLER;
            job.rung = Rung::Fexit;
            job.note = "exact ends of all faults that the kernel completes".into();
            return job;
        }
        Some(Err(refusal)) => refusal,
        None => "not tried",
    };
    let without = if job.rung == Rung::None {
        "ends of minor faults are approximate: the last moment known to be in the fault"
    } else {
        "exact ends of minor faults for threads with rseq (glibc 2.35 and newer); others approximate"
    };
    let locked = match &facts.lockdown {
        Lockdown::Mode(mode) if mode != "none" => format!(", lockdown is {mode}"),
        _ => String::new(),
    };
    job.note = format!("{without} (fexit of {HANDLER}: {refusal}{locked})").into();
    job
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::well;
    use super::*;

    #[test]
    fn what_only_io_needs_is_marked() {
        let job = JOBS.iter().find(|job| job.name == "io_queued");
        let job = job.expect("one of the jobs");
        assert_eq!(note(job, true), "only with --io");
        assert_eq!(note(job, false), "--io cannot work without it");
        assert_eq!(job.need, Need::Io);
    }

    fn rseq(rung: Rung) -> JobRung {
        JobRung {
            name: FAULT_ENDS,
            attached_to: "rseq_update",
            rung,
            required: false,
            note: "".into(),
        }
    }

    #[test]
    fn beginnings_come_from_the_event_where_there_is_no_tracepoint() {
        let job = |name| JobRung {
            name,
            attached_to: "page_fault_user",
            ..rseq(Rung::TpBtf)
        };
        let (user, kernel) = (job("user_fault_begins"), job(KERNEL_FAULT_BEGINS));
        assert_eq!(fault_begins(user.clone(), Rung::TpBtf, &well()), user);
        let event = fault_begins(user.clone(), Rung::PerfEvent, &well());
        assert_eq!(
            (event.rung, event.attached_to),
            (Rung::PerfEvent, "PAGE_FAULTS")
        );
        assert!(event.note.contains("read or wrote is known only"));
        let other = fault_begins(kernel, Rung::PerfEvent, &well());
        assert!(other.note.contains("the program of user_fault_begins"));
        let without = Facts {
            perf_event: Err("Operation not permitted".to_owned()),
            ..well()
        };
        assert_eq!(fault_begins(user.clone(), Rung::PerfEvent, &without), user);
    }

    #[test]
    fn ends_come_from_fexit_or_the_note_says_why_not() {
        let with = |fexit| Facts {
            fexit: Some(fexit),
            ..well()
        };
        let best = fault_ends(rseq(Rung::TpBtf), &with(Ok(())));
        assert_eq!((best.rung, best.attached_to), (Rung::Fexit, HANDLER));
        let refused = with(Err("Operation not permitted".to_owned()));
        let next = fault_ends(rseq(Rung::TpBtf), &refused);
        assert_eq!(next.rung, Rung::TpBtf);
        for word in ["Operation not permitted", "lockdown is integrity"] {
            assert!(next.note.contains(word), "{}", next.note);
        }
        let none = fault_ends(rseq(Rung::None), &refused);
        assert!(none.note.contains("approximate:"), "{}", none.note);
    }
}
