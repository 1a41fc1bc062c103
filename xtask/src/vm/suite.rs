//! Which end-to-end tests run on other kernels, and why the others do not.

use anyhow::{Context as _, bail, ensure};

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
pub(super) const PROGRAMS: [Program; 15] = [
    whole("ground_truth"),
    whole("exact"),
    whole("majors"),
    whole("readahead"),
    whole("stuck"),
    whole("stalls"),
    whole("kernel_mode"),
    whole("causes"),
    whole("wakers"),
    whole("filters"),
    whole("no_false_alarm"),
    whole("light"),
    whole("rungs"),
    Program {
        name: "small_ring",
        without: &[(
            "a_full_ring_does_not_slow_the_target",
            "compares speeds, of which an emulated machine says nothing",
        )],
    },
    Program {
        name: "unbreakable",
        without: &[(
            "ten_thousand_threads",
            "takes an emulated machine longer than the test waits",
        )],
    },
];

/// What does not.
pub(super) const LEFT_OUT: [(&str, &str); 10] = [
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
        "exports",
        "wants Python and Go, which the guest does not have",
    ),
    ("hostile_names", "escaping does not depend on the kernel"),
    ("privileges", "wants users and tools of an installed system"),
    (
        "saved",
        "SQLite and the trace's form do not depend on the kernel",
    ),
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

/// What to ask of each program that was built. Fails if one is in neither list, so that a new one
/// cannot stay out unnoticed. `only`: the programs that are wanted, all if empty.
pub(super) fn asked(built: &[Executable], only: &[String]) -> anyhow::Result<Vec<Asked>> {
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
        let names = PROGRAMS.map(|program| program.name).join(", ");
        bail!("no program {unknown} runs on other kernels: there are {names}");
    }
    let wanted = |name| only.is_empty() || only.iter().any(|other| other == name);
    PROGRAMS
        .iter()
        .filter(|program| wanted(program.name))
        .map(|program| ask(program, built))
        .collect()
}

fn ask(program: &Program, built: &[Executable]) -> anyhow::Result<Asked> {
    let executable = built
        .iter()
        .find(|executable| executable.kind == "test" && executable.name == program.name)
        .with_context(|| format!("cargo built no test program {}", program.name))?;
    let skips = program.without.iter().map(|(test, _)| *test);
    let mut arguments: Vec<String> = skips
        .flat_map(|test| ["--skip".to_owned(), test.to_owned()])
        .collect();
    if !arguments.is_empty() {
        arguments.insert(0, "--exact".to_owned());
    }
    let all = count_tests(executable, &[] as &[&str])?;
    let tests = count_tests(executable, &arguments)?;
    ensure!(
        tests > 0 && tests + program.without.len() == all,
        "{}: {all} tests, {} to be left out, {tests} remain",
        program.name,
        program.without.len()
    );
    Ok(Asked {
        name: program.name.to_owned(),
        arguments,
        tests,
    })
}
