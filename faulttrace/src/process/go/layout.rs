//! Where the runtime of each version of Go has what a tracer reads of its goroutines.

use serde::{Deserialize, Serialize};

use super::build_info;

/// No structure of the runtime is longer.
const MAX_OFFSET: u32 = 1 << 16;

/// Where members are in structures of package runtime (runtime/runtime2.go), in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offsets {
    /// `g.m`: the thread that runs it.
    pub(crate) g_m: u32,
    /// `g.atomicstatus`, 32 bits.
    pub(crate) g_status: u32,
    /// `g.goid`, 64 bits.
    pub(crate) g_goid: u32,
    /// `g.startpc`: the function it began in.
    pub(crate) g_start_pc: u32,
    /// `g.gopc`: the `go` statement that made it.
    pub(crate) g_go_pc: u32,
    /// `g.labels`: of the profiler.
    pub(crate) g_labels: u32,
    /// `m.g0`: what runs the scheduler.
    pub(crate) m_g0: u32,
    /// `m.curg`: the goroutine that it runs.
    pub(crate) m_curg: u32,
    /// `m.procid`, 64 bits: the thread's id.
    pub(crate) m_procid: u32,
    /// `m.p`.
    pub(crate) m_p: u32,
    /// `p.id`, 32 bits.
    pub(crate) p_id: u32,
    /// `p.runqhead`, 32 bits.
    pub(crate) p_runq_head: u32,
    /// `p.runqtail`, 32 bits.
    pub(crate) p_runq_tail: u32,
    /// `p.runnext`.
    pub(crate) p_run_next: u32,
}

/// What is known of a version's structures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Structures {
    pub(super) offsets: Offsets,
    /// `schedt.runqsize`, or `schedt.runq.size`: 32 bits in each version.
    pub(super) sched_runq_size: u32,
}

impl Structures {
    /// From what each member of a structure has as its offset.
    pub(super) fn from_members(offset: impl Fn(&str, &str) -> Option<u32>) -> Option<Self> {
        let member = |structure, member| {
            let found = offset(structure, member)?;
            (found < MAX_OFFSET).then_some(found)
        };
        let runq_size = member("schedt", "runqsize").or_else(|| {
            let queue = member("schedt", "runq")?;
            queue.checked_add(member("gQueue", "size")?)
        });
        Some(Self {
            offsets: Offsets {
                g_m: member("g", "m")?,
                g_status: member("g", "atomicstatus")?,
                g_goid: member("g", "goid")?,
                g_start_pc: member("g", "startpc")?,
                g_go_pc: member("g", "gopc")?,
                g_labels: member("g", "labels")?,
                m_g0: member("m", "g0")?,
                m_curg: member("m", "curg")?,
                m_procid: member("m", "procid")?,
                m_p: member("m", "p")?,
                p_id: member("p", "id")?,
                p_runq_head: member("p", "runqhead")?,
                p_runq_tail: member("p", "runqtail")?,
                p_run_next: member("p", "runnext")?,
            },
            sched_runq_size: runq_size?,
        })
    }

    /// Of a released version, by the table.
    pub(super) fn of_version(version: &str) -> Option<Self> {
        if !is_as_released(version) {
            return None;
        }
        let row = match build_info::numbers(version)? {
            (1, 18 | 19) => [152, 312, 360, 192, 208, 400, 112],
            (1, 20) => [152, 312, 360, 192, 208, 400, 120],
            (1, 21 | 22) => [152, 296, 344, 192, 208, 400, 120],
            (1, 23 | 24) => [160, 304, 352, 192, 208, 392, 120],
            (1, 25) => [152, 296, 344, 184, 200, 392, 128],
            (1, 26 | 27) => [152, 304, 352, 184, 208, 400, 144],
            _ => return None,
        };
        Some(Self::of_row(row))
    }

    /// From where the versions differ: `g.goid`, `g.startpc`, `g.labels`, `m.curg`, `m.p`, `p.runqhead`,
    /// and the size of the run queue in `schedt`. For linux/amd64, as DWARF has it of programs that
    /// 1.19.8, 1.21.13, 1.22.10, 1.23.1, 1.23.9, 1.24.3, 1.24.11, 1.25.0, 1.25.5, 1.26.0, 1.26.6, 1.27.0
    /// and 1.27.3 made; for 1.18 and 1.20, as go/types has it of their runtime/runtime2.go.
    fn of_row(row: [u32; 7]) -> Self {
        let [goid, start_pc, labels, curg, p, runq_head, sched_runq_size] = row;
        Self {
            offsets: Offsets {
                g_m: 48,
                g_status: goid - 8,
                g_goid: goid,
                g_start_pc: start_pc,
                g_go_pc: start_pc - 16,
                g_labels: labels,
                m_g0: 0,
                m_curg: curg,
                m_procid: curg - 120,
                m_p: p,
                p_id: 0,
                p_runq_head: runq_head,
                p_runq_tail: runq_head + 4,
                // Behind the queue: 256 pointers.
                p_run_next: runq_head + 8 + 256 * 8,
            },
            sched_runq_size,
        }
    }
}

/// Whether the runtime's structures are those of the release: not of a version in between, nor changed by
/// an experiment that the compiler was built with.
fn is_as_released(version: &str) -> bool {
    /// These are of the language or of other packages (internal/goexperiment).
    const HARMLESS: [&str; 7] = [
        "aliastypeparams",
        "boringcrypto",
        "jsonv2",
        "loopvar",
        "noaliastypeparams",
        "nocoverageredesign",
        "rangefunc",
    ];
    let mut words = version.split_ascii_whitespace();
    let is_release = words
        .next()
        .is_some_and(|first| first.starts_with("go1.") && !first.contains("-devel"));
    let experiments = words.find_map(|word| word.strip_prefix("X:"));
    let are_harmless =
        experiments.is_none_or(|all| all.split(',').all(|one| HARMLESS.contains(&one)));
    is_release && are_harmless
}

impl Offsets {
    /// Whether all of them are such as a structure can have.
    pub(crate) fn are_plausible(&self) -> bool {
        [
            self.g_m,
            self.g_status,
            self.g_goid,
            self.g_start_pc,
            self.g_go_pc,
            self.g_labels,
            self.m_g0,
            self.m_curg,
            self.m_procid,
            self.m_p,
            self.p_id,
            self.p_runq_head,
            self.p_runq_tail,
            self.p_run_next,
        ]
        .iter()
        .all(|offset| *offset < MAX_OFFSET)
    }
}
