//! Which rung each job takes on this kernel, and what that costs.

use super::facts::Facts;
use crate::probe::{JOBS, Rung, STUCK_JOB};

/// A job of the probe and the rung it takes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobRung {
    pub(super) name: &'static str,
    /// What the program is attached to.
    pub(super) attached_to: &'static str,
    pub(super) rung: Rung,
    pub(super) required: bool,
    pub(super) note: &'static str,
}

/// The rung of each job, as far as the kernel's types tell; empty if they could not be read.
pub(super) fn ladder(facts: &Facts) -> Vec<JobRung> {
    let Some(Ok(types)) = &facts.types else {
        return Vec::new();
    };
    let note = |tracepoint: &str, there: bool| match (tracepoint, there) {
        ("mm_filemap_fault", false) => {
            "file and offset come from the memory map alone; without an exception, faults are seen only where they sleep in state D (kernel 6.12 has it)"
        }
        ("rseq_update", false) => {
            "ends of minor faults are approximate: the last moment known to be in the fault"
        }
        ("rseq_update", true) => {
            "exact ends of minor faults for threads with rseq (glibc 2.35 and newer); others approximate"
        }
        ("page_fault_kernel", false) => "faults inside system calls are not seen",
        _ => "",
    };
    let mut jobs: Vec<JobRung> = JOBS
        .iter()
        .map(|job| {
            let there = types.has_tracepoint(job.tracepoint);
            JobRung {
                name: job.name,
                attached_to: job.tracepoint,
                rung: if there { Rung::TpBtf } else { Rung::None },
                required: job.required,
                note: note(job.tracepoint, there),
            }
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
        note: "",
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
        note: if types.task_iterator {
            "runs once, and only if a thread is stuck already"
        } else {
            "of threads that were stuck before, neither address nor file is known (kernel 5.8 has it)"
        },
    });
    jobs
}
