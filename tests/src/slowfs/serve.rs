//! The slow file system as a process of its own, told what to do by lines on its input:
//! `hold OFFSET`, `stall OFFSET`, `held`, `release`, `log`; each is answered by one line of JSON. It unmounts
//! and ends with its input.

use std::ffi::OsString;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, Plan, mount};
use crate::mem::PAGE;
use crate::workload::protocol::say;

/// Serve a file with slow reads until the input ends.
#[derive(Debug, clap::Args)]
pub struct SlowFsArgs {
    /// Where to mount it.
    pub mount: PathBuf,
    /// Name of the file.
    #[arg(long, default_value = "data")]
    pub name: OsString,
    /// Size of the file, bytes.
    #[arg(long)]
    pub size: u64,
    /// Time a read takes, µs.
    #[arg(long, default_value_t = 0)]
    pub delay_us: u64,
    /// Each page whose number is divisible by this takes `--every-us` instead (0: none).
    #[arg(long, default_value_t = 0)]
    pub every: u64,
    /// See `--every`.
    #[arg(long, default_value_t = 0)]
    pub every_us: u64,
    /// Readahead, bytes (0: none).
    #[arg(long, default_value_t = 0)]
    pub readahead: u32,
}

/// Runs until the input ends.
pub fn run(args: SlowFsArgs) {
    let (usual, every) = (Duration::from_micros(args.delay_us), args.every);
    let special = Duration::from_micros(args.every_us);
    let delay = move |offset: u64| {
        let page = offset / PAGE as u64;
        if every != 0 && page.is_multiple_of(every) {
            special
        } else {
            usual
        }
    };
    let plan = Plan {
        name: args.name,
        size: args.size,
        readahead: args.readahead,
        delay: Box::new(delay),
    };
    let control = Arc::new(Control::default());
    let session =
        mount(plan, Arc::clone(&control), &args.mount).expect("mount the slow file system");
    say("ready", &());
    for line in io::stdin().lock().lines() {
        let line = line.expect("read a command");
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("hold", offset) => {
                control.hold(offset.parse().expect("hold OFFSET"));
                say("ok", &());
            }
            ("stall", offset) => {
                control.stall(offset.parse().expect("stall OFFSET"));
                say("ok", &());
            }
            ("held", _) => say("held", &control.held()),
            ("release", _) => {
                control.release();
                say("ok", &());
            }
            ("log", _) => say("log", &control.log()),
            (other, _) => panic!("the slow file system does not know the command {other:?}"),
        }
    }
    control.release();
    // A mapping may still be alive in a process that is being killed: then the harness unmounts.
    let _unmounted = session.umount_and_join();
}
