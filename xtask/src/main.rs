//! `cargo xtask TASK`: everything a developer or CI does to this repository.
//!
//! Routes only; each task is a module. `./x TASK` is the same on a machine that may lack even a C
//! linker.

mod bench;
mod cargo;
mod docs;
mod endurance;
mod fuzz;
mod lint;
mod python;
mod run;
mod setup;
mod shell;
mod test;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shell::say;

#[derive(Parser)]
#[command(name = "cargo xtask", about, version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install whatever building, testing and linting need; says what it does, safe to repeat
    Setup,
    /// Set up, then build the release binary
    Build,
    /// Set up, build, and trace the bundled demo, or what the arguments for faulttrace say
    ///
    /// Without a target (`--pid N`, `-- COMMAND`, …) the demo is started, traced with the options
    /// given, and stopped afterwards.
    #[command(disable_help_flag = true)]
    Run {
        /// Arguments for faulttrace
        #[arg(
            value_name = "FAULTTRACE ARGUMENTS",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<OsString>,
    },
    /// Set up, lint, unit tests, end-to-end tests: all that CI runs
    Test,
    /// Only the end-to-end tests: root (sudo is used if needed), on the running kernel
    E2e {
        /// Arguments for the test programs: name filters, `--nocapture`, …
        #[arg(
            value_name = "TEST ARGUMENTS",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<OsString>,
    },
    /// The end-to-end tests that depend on the kernel, on other kernels, in QEMU
    Vm {
        /// 5.10, 6.1, 6.12, newest or arm64, which is 6.12 there; without, each in turn
        kernels: Vec<String>,
        /// Only this test program; repeats
        #[arg(long = "program", value_name = "NAME")]
        programs: Vec<String>,
        /// How the kernel preempts itself, where that can be chosen at boot; without, as it was configured
        #[arg(long, value_name = "HOW")]
        preempt: Option<vm::Preempt>,
    },
    /// Write the documents that are generated from the code
    Docs,
    /// Run the fuzz targets, or one of them
    Fuzz {
        /// The target; without, each in turn
        target: Option<String>,
        /// For how long, each
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Half an hour of a target that does everything a process can, and of blows to it and the tracer
    ///
    /// Like the end-to-end tests, which run half a minute of it: as root, on the running kernel.
    Chaos {
        /// For how long
        #[arg(long, default_value_t = 1800)]
        seconds: u64,
        /// Repeats what happened with this seed, which each run prints
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Half an hour of steady load: nothing lost, every count exact, memory flat
    Soak {
        /// For how long
        #[arg(long, default_value_t = 1800)]
        seconds: u64,
        /// Major faults a second
        #[arg(long, default_value_t = 5000)]
        rate: u32,
    },
    /// Measure what something costs on this machine; without a subcommand, all of it on real faults
    Bench {
        /// On real faults, as root; a part is only printed
        #[arg(value_enum, default_value = "all")]
        part: bench::Part,
        /// How often each tracer attaches
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        #[command(subcommand)]
        what: Option<Bench>,
    },
    /// Only the checks that need no test to run: format, lints, docs, licences, file length
    Lint,
}

#[derive(Subcommand)]
enum Bench {
    /// Writing made-up faults to a saved trace, and `faulttrace report` on it
    Trace {
        /// How many faults
        #[arg(long, default_value_t = 10_000_000)]
        faults: u64,
    },
    /// What userspace does for each fault, step by step
    Micro {
        /// Arguments for the benchmark: name filters, `--save-baseline NAME`, …
        #[arg(
            value_name = "BENCHMARK ARGUMENTS",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match execute(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(task: Task) -> anyhow::Result<ExitCode> {
    match task {
        Task::Setup => setup::setup(setup::Purpose::Test)?,
        Task::Build => {
            setup::setup(setup::Purpose::Build)?;
            let faulttrace = cargo::release_binary("faulttrace", "faulttrace")?;
            say(&format!("built {}", faulttrace.display()));
        }
        Task::Run { arguments: _ } => {
            setup::setup(setup::Purpose::Build)?;
            return run::run(&run::arguments_after("run", std::env::args_os()));
        }
        Task::Test => {
            setup::setup(setup::Purpose::Test)?;
            lint::lint()?;
            test::unit()?;
            test::e2e(&[])?;
            say("all passed");
        }
        Task::E2e { arguments } => {
            setup::setup(setup::Purpose::Test)?;
            test::e2e(&arguments)?;
        }
        Task::Vm {
            kernels,
            programs,
            preempt,
        } => {
            setup::setup(vm::purpose(&kernels)?)?;
            vm::vm(&kernels, &programs, preempt)?;
        }
        Task::Docs => {
            setup::setup(setup::Purpose::Build)?;
            docs::docs()?;
        }
        Task::Fuzz { target, seconds } => {
            setup::fuzzing()?;
            fuzz::fuzz(target.as_deref(), seconds)?;
        }
        Task::Chaos { seconds, seed } => {
            setup::setup(setup::Purpose::Test)?;
            endurance::chaos(seconds, seed)?;
        }
        Task::Soak { seconds, rate } => {
            setup::setup(setup::Purpose::Test)?;
            endurance::soak(seconds, rate)?;
        }
        Task::Bench { part, rounds, what } => measure(part, rounds, what)?,
        Task::Lint => {
            setup::setup(setup::Purpose::Test)?;
            lint::lint()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(part: bench::Part, rounds: u32, what: Option<Bench>) -> anyhow::Result<()> {
    let Some(what) = what else {
        setup::setup(setup::Purpose::Bench)?;
        return bench::rig(part, rounds);
    };
    setup::setup(setup::Purpose::Build)?;
    match what {
        Bench::Trace { faults } => bench::trace(faults),
        Bench::Micro { arguments } => bench::micro(&arguments),
    }
}
