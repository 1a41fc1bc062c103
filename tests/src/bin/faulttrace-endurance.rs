//! The long runs as a program, for `cargo xtask chaos` and `cargo xtask soak`. Needs root.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use faulttrace_tests::endurance::{chaos, soak};
use faulttrace_tests::harness::start;

/// Long runs of faulttrace (`FAULTTRACE_BIN`).
#[derive(Debug, Parser)]
enum Endurance {
    /// A target that does everything a process can, and blows to it and to the tracer.
    Chaos {
        /// For how long.
        #[arg(long)]
        seconds: u64,
        /// What happens when follows from this; without, from the time.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// A steady load.
    Soak {
        /// For how long.
        #[arg(long)]
        seconds: u64,
        /// Faults a second.
        #[arg(long)]
        rate: u32,
    },
}

fn main() {
    let arguments = Endurance::parse();
    let bench = start();
    let said = match arguments {
        Endurance::Chaos { seconds, seed } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let seed = seed.unwrap_or_else(|| now.expect("after 1970").as_secs());
            chaos::run(&bench, Duration::from_secs(seconds), seed)
        }
        Endurance::Soak { seconds, rate } => soak::run(&bench, Duration::from_secs(seconds), rate),
    };
    println!("{said}");
}
