//! Which end-to-end tests run on other kernels, and why the others do not.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};

use super::boot::Preempt;
use crate::cargo::Executable;
use crate::test::count_tests;

/// A test program and the tests of it that stay out.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Names of tests, with the reason.
    pub(super) without: &'static [(&'static str, &'static str)],
}

const fn whole(name: &'static str) -> Program {
    Program { name, without: &[] }
}

/// What runs: all that depends on the kernel. The referees first.
pub(super) static PROGRAMS: [Program; 25] = [
    whole("ground_truth"),
    whole("exact"),
    whole("unwinding"),
    whole("majors"),
    whole("readahead"),
    Program {
        name: "ahead",
        without: &[(
            "the_report_adds_up_what_was_read_in_vain",
            "looks at what was saved, and on an emulated machine nothing is",
        )],
    },
    whole("stuck"),
    whole("stalls"),
    whole("kernel_mode"),
    whole("causes"),
    whole("confusion"),
    whole("nfs"),
    whole("wakers"),
    whole("scarce"),
    whole("preempted"),
    Program {
        name: "device",
        without: &[(
            "a_busy_device_is_told_from_a_slow_one",
            "an emulated machine is itself what takes the time",
        )],
    },
    whole("mapper"),
    whole("limits"),
    whole("filters"),
    whole("no_false_alarm"),
    whole("light"),
    whole("rungs"),
    Program {
        name: "privileges",
        without: &[
            (
                "a_launched_command_has_nothing_of_the_tracers",
                "wants tools of an installed system",
            ),
            (
                "each_thread_keeps_what_the_docs_say",
                "wants the docs, and a trace that is saved",
            ),
            (
                "root_can_save_where_only_root_may_write_anything",
                "looks at what was saved, and on an emulated machine nothing is",
            ),
            (
                "signals_reach_a_command_of_another_user",
                "wants tools of an installed system",
            ),
        ],
    },
    Program {
        name: "small_ring",
        without: &[(
            "a_full_ring_does_not_slow_the_target",
            "compares speeds, of which an emulated machine says nothing",
        )],
    },
    Program {
        name: "unbreakable",
        without: &[
            (
                "ten_thousand_threads",
                "takes an emulated machine longer than the test waits",
            ),
            (
                "a_tracer_that_is_killed_leaves_nothing_behind",
                "looks at what was saved, and on an emulated machine nothing is",
            ),
        ],
    },
];

/// What some guests cannot do.
enum Lack {
    /// A second CPU.
    Cpus,
    /// Majors of `MADV_POPULATE_READ`. It came with 5.14 (kernel commit 4ca9b3859dac); in 6.1 the second
    /// try of its faults, which is the one that the kernel counts, begins as if it were the first.
    PopulateMajors,
    /// What `--evictions` needs, see docs/kernels.md.
    Evictions,
    /// Tracepoints at the beginnings of faults, which x86 alone has; and with them `--light`.
    BeginTracepoints,
    /// Memory that a workload takes all of: this guest has more left than it does.
    ScarceMemory,
    /// The block device in a `struct bio` (kernel commit 309dca309fc3, 5.12): without it, of a read that is not
    /// done the device is not told.
    BioDevice,
    /// Minor faults that wait for userfaultfd, of which before 6.4 each is tried again under `mmap_lock`, which
    /// makes it major (kernel commit 0bff0aaea03e): its end is told by another event.
    MinorWaits,
    /// Tracepoint `mm_filemap_fault`, which came with 6.12: without it there is no `--light`, and what faults
    /// without an exception read is not known.
    FileFaults,
    /// Full preemption, and a zram whose streams can be waited for ("zram: permit preemption with active compression
    /// stream", 6.15): without them, nobody waits for zram itself.
    PreemptedZram,
    /// Perf events that come for sure: with full preemption, the kernel drops some.
    Events,
}

/// Tests that stay out where something is lacking: not the tracer, but what is traced, would be
/// another there.
const LACKING: [(Lack, &str, &str); 37] = [
    // The loop device's worker is through before the reader goes on, so that hardly anybody ever
    // waits for readahead: getrusage counts 382 sleeps in 32,768 touches.
    (
        Lack::Cpus,
        "ground_truth",
        "readahead_hides_majors_but_not_sleeps",
    ),
    (
        Lack::Cpus,
        "readahead",
        "the_time_lost_to_readahead_is_reported",
    ),
    (
        Lack::Cpus,
        "causes",
        "a_read_of_ones_own_and_one_that_readahead_started",
    ),
    // Nobody touches a huge page while it is split.
    (Lack::Cpus, "confusion", "causes_are_told_from_each_other"),
    // Nobody takes the lock while somebody else has it.
    (
        Lack::Cpus,
        "scarce",
        "who_moves_pages_together_waits_in_compaction",
    ),
    (Lack::Cpus, "filters", "major_only_holds_back_the_minors"),
    // A real-time thread on the only CPU leaves nothing to the harness, nor to the tracer.
    (
        Lack::Cpus,
        "ground_truth",
        "the_hog_makes_a_woken_thread_wait_for_the_cpu",
    ),
    (
        Lack::Cpus,
        "no_false_alarm",
        "waiting_for_the_cpu_is_run_queue_and_not_blocked",
    ),
    (
        Lack::PopulateMajors,
        "ground_truth",
        "get_user_pages_takes_majors_without_exceptions",
    ),
    (
        Lack::PopulateMajors,
        "majors",
        "faults_without_an_exception_are_a_remainder_or_reported_as_gup",
    ),
    (
        Lack::PopulateMajors,
        "majors",
        "the_text_explains_the_remainder",
    ),
    (
        Lack::Evictions,
        "scarce",
        "pages_are_evicted_by_kswapd_or_by_who_wants_memory",
    ),
    (Lack::Evictions, "ahead", "what_is_read_in_order_is_used"),
    (Lack::Evictions, "ahead", "what_is_read_in_vain_is_told"),
    (
        Lack::BioDevice,
        "device",
        "stuck_threads_say_whether_their_device_has_the_read",
    ),
    (
        Lack::FileFaults,
        "device",
        "single_pages_are_single_requests_with_light_too",
    ),
    (
        Lack::FileFaults,
        "device",
        "reads_in_system_calls_are_followed",
    ),
    (Lack::FileFaults, "light", "faults_on_a_file_are_whole"),
    (
        Lack::FileFaults,
        "light",
        "other_faults_have_an_address_and_are_counted_as_begun_unseen",
    ),
    (
        Lack::FileFaults,
        "light",
        "majors_that_need_not_sleep_are_all_there",
    ),
    (
        Lack::BeginTracepoints,
        "device",
        "single_pages_are_single_requests_with_light_too",
    ),
    (
        Lack::BeginTracepoints,
        "light",
        "faults_on_a_file_are_whole",
    ),
    (
        Lack::BeginTracepoints,
        "light",
        "other_faults_have_an_address_and_are_counted_as_begun_unseen",
    ),
    (
        Lack::BeginTracepoints,
        "light",
        "majors_that_need_not_sleep_are_all_there",
    ),
    (
        Lack::BeginTracepoints,
        "rungs",
        "beginnings_told_by_the_event_are_those_of_the_tracepoints",
    ),
    // Reads that are held back are found again by the page that the fault is known to be about.
    (
        Lack::FileFaults,
        "limits",
        "reads_that_a_limit_holds_back_are_told_by_how_long",
    ),
    (
        Lack::FileFaults,
        "limits",
        "reads_that_a_limit_holds_back_are_told_with_light_too",
    ),
    (
        Lack::FileFaults,
        "limits",
        "reads_that_are_held_back_and_too_large_for_the_device_are_whole",
    ),
    (
        Lack::FileFaults,
        "limits",
        "a_thread_whose_read_is_held_back_says_so",
    ),
    (
        Lack::BeginTracepoints,
        "limits",
        "reads_that_a_limit_holds_back_are_told_with_light_too",
    ),
    // Whether such a fault read or wrote is not known without that tracepoint.
    (
        Lack::FileFaults,
        "rungs",
        "beginnings_told_by_the_event_are_those_of_the_tracepoints",
    ),
    (
        Lack::MinorWaits,
        "rungs",
        "ends_told_by_rseq_update_and_bounds",
    ),
    (
        Lack::MinorWaits,
        "rungs",
        "ends_told_by_fexit_or_refused_with_a_reason",
    ),
    (
        Lack::PreemptedZram,
        "preempted",
        "who_waits_for_zram_itself_is_told_so",
    ),
    (
        Lack::Events,
        "rungs",
        "beginnings_told_by_the_event_are_those_of_the_tracepoints",
    ),
    (
        Lack::ScarceMemory,
        "scarce",
        "pages_are_evicted_by_kswapd_or_by_who_wants_memory",
    ),
    (
        Lack::ScarceMemory,
        "scarce",
        "who_makes_room_waits_in_direct_reclaim",
    ),
];

/// What a guest is, as far as tests depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// [`super::kernels::Series::name`].
    pub(super) series: &'static str,
    pub(super) cpus: u32,
    pub(super) preempt: Option<Preempt>,
}

impl Machine {
    fn lacks(&self, what: &Lack) -> bool {
        match what {
            Lack::Cpus => self.cpus < 2,
            Lack::PopulateMajors | Lack::Evictions | Lack::FileFaults | Lack::MinorWaits => {
                ["5.10", "6.1"].contains(&self.series)
            }
            Lack::BioDevice => self.series == "5.10",
            Lack::PreemptedZram => (self.series, self.preempt) != ("newest", Some(Preempt::Full)),
            Lack::Events => self.preempt == Some(Preempt::Full),
            Lack::BeginTracepoints | Lack::ScarceMemory => self.series == "arm64",
        }
    }

    /// Tests of a program that stay out.
    fn without(&self, program: &Program) -> Vec<&'static str> {
        let always = program.without.iter().map(|(test, _)| *test);
        let here = LACKING
            .iter()
            .filter(|(lack, of, _)| *of == program.name && self.lacks(lack))
            .map(|(_, _, test)| *test);
        // A test may lack two things.
        let all: BTreeSet<_> = always.chain(here).collect();
        all.into_iter().collect()
    }
}

/// What does not.
pub(super) const LEFT_OUT: [(&str, &str); 14] = [
    (
        "advice",
        "compares what runs cost, of which an emulated machine says nothing; what it goes by, causes tests",
    ),
    ("cli", "arguments do not depend on the kernel"),
    ("diff", "reads saved traces only"),
    (
        "doctor",
        "its figures are about the machine; the guest's own report is in the log",
    ),
    (
        "endurance",
        "paced by the clock, and an emulated machine is too slow for it",
    ),
    (
        "evictions",
        "needs kernel 6.12, and more memory and disk than the guests have",
    ),
    (
        "exports",
        "wants Python and Go, which the guest does not have",
    ),
    ("go", "wants Go, which the guest does not have"),
    ("go_ps", "wants Go, which the guest does not have"),
    ("hostile_names", "escaping does not depend on the kernel"),
    (
        "saved",
        "SQLite and the trace's form do not depend on the kernel",
    ),
    ("referees", "wants perf, which the guest does not have"),
    ("saved_failures", "neither does what happens to a full disk"),
    ("symbols", "wants compilers, which the guest does not have"),
];

/// What a program is asked to do in the guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) name: String,
    /// For the program, besides `--test-threads=1`.
    pub(super) arguments: Vec<String>,
    /// How many tests that selects.
    pub(super) tests: usize,
}

/// What the guest reads: a line for each program, with its arguments, then empty ones to fill whole
/// sectors of a disk.
pub(super) fn list(asked: &[Asked]) -> String {
    /// More than enough for all programs without one test each.
    const BYTES: usize = 64 * 1024;
    let line = |asked: &Asked| {
        let words = [std::slice::from_ref(&asked.name), &asked.arguments].concat();
        words.join(" ") + "\n"
    };
    let mut text: String = asked.iter().map(line).collect();
    let missing = BYTES.saturating_sub(text.len());
    text.extend(std::iter::repeat_n('\n', missing));
    text
}

/// The programs that are wanted, all if `only` is empty. Fails if one that was built is in neither
/// list, so that a new one cannot stay out unnoticed.
pub(super) fn chosen(
    built: &[Executable],
    only: &[String],
) -> anyhow::Result<Vec<&'static Program>> {
    for executable in built.iter().filter(|executable| executable.kind == "test") {
        let name = &executable.name;
        let runs = PROGRAMS.iter().any(|program| program.name == name);
        let left_out = LEFT_OUT.iter().any(|(other, _)| other == name);
        ensure!(
            runs != left_out,
            "xtask/src/vm/suite.rs must say whether {name} runs on other kernels, once"
        );
    }
    let known = |name: &String| PROGRAMS.iter().any(|program| program.name == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
        let names = names.join(", ");
        bail!("no program {unknown} runs on other kernels: there are {names}");
    }
    let wanted = |name| only.is_empty() || only.iter().any(|other| other == name);
    let chosen = PROGRAMS.iter().filter(|program| wanted(program.name));
    Ok(chosen.collect())
}

/// What to ask of these programs in a guest.
pub(super) fn asked(
    programs: &[&Program],
    built: &[Executable],
    machine: Machine,
) -> anyhow::Result<Vec<Asked>> {
    let asked = programs.iter().map(|program| ask(program, built, machine));
    asked.filter_map(Result::transpose).collect()
}

/// `None` if none of its tests can be done there.
fn ask(program: &Program, built: &[Executable], machine: Machine) -> anyhow::Result<Option<Asked>> {
    let executable = built
        .iter()
        .find(|executable| executable.kind == "test" && executable.name == program.name)
        .with_context(|| format!("cargo built no test program {}", program.name))?;
    let without = machine.without(program);
    let mut arguments: Vec<String> = without
        .iter()
        .flat_map(|test| ["--skip".to_owned(), (*test).to_owned()])
        .collect();
    if !arguments.is_empty() {
        arguments.insert(0, "--exact".to_owned());
    }
    let all = count_tests(executable, &[] as &[&str])?;
    let tests = count_tests(executable, &arguments)?;
    ensure!(
        tests + without.len() == all,
        "{}: {all} tests, {} to be left out, {tests} remain",
        program.name,
        without.len()
    );
    Ok((tests > 0).then(|| Asked {
        name: program.name.to_owned(),
        arguments,
        tests,
    }))
}
