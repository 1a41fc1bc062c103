//! Stacks that the programs recognise, or follow by frame pointers, are those that the kernel unwinds.

use std::collections::BTreeMap;
use std::process::Command;

use faulttrace_tests::harness::record::{Fault, Frame};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::{self, Work};

/// A function and where in it, of each frame.
type Stack = Vec<(Option<String>, Option<u64>)>;

/// The kernel's and the program's stack of each fault that slept, by thread, address and number.
fn stacks(trace: &Trace, pid: u32) -> BTreeMap<(u32, String, usize), (Stack, Stack)> {
    let mut seen = BTreeMap::new();
    let mut all = BTreeMap::new();
    let faults = trace.faults(pid).into_iter();
    for fault in faults.filter(|fault| fault.blocked_ns > 0) {
        let address = fault.facts.address.clone().unwrap_or_default();
        let number: &mut usize = seen.entry((fault.facts.tid, address.clone())).or_default();
        *number += 1;
        let user = places(fault.facts.user_stack.as_deref());
        all.insert((fault.facts.tid, address, *number), (kernel(fault), user));
    }
    all
}

fn places(stack: Option<&[Frame]>) -> Stack {
    let frames = stack.unwrap_or_default().iter();
    frames
        .map(|frame| (frame.function.clone(), frame.offset.or(frame.module_offset)))
        .collect()
}

/// Without the frames of the tracers' own programs, which are no part of the wait.
fn kernel(fault: &Fault) -> Stack {
    let mut places = places(fault.facts.kernel_stack.as_deref());
    let begins = places.iter().position(|(function, _)| {
        let names = ["__schedule", "schedule"];
        function
            .as_deref()
            .is_some_and(|name| names.contains(&name))
    });
    let begins = begins.unwrap_or_else(|| panic!("not asleep: {fault:?}"));
    places.split_off(begins)
}

/// How often a program counted this, as it says with `-v`.
fn counted(trace: &Trace, name: &str) -> u64 {
    let words: Vec<_> = trace.stderr.split([' ', ',', '\n']).collect();
    let at = words.iter().rposition(|word| *word == name);
    let number = at.and_then(|at| words.get(at + 1)?.parse().ok());
    number.unwrap_or(0)
}

/// Both tracers see the same faults. Few places to sleep in are enough for a hundred faults, so most of
/// the stacks must have been recognised, though each CPU learns them anew.
fn compare(arguments: &[&str], rungs: &str) {
    let mut command = Command::new(work::binary());
    let mut work = Work::start_command(arguments[0], command.args(arguments));
    let by_kernel = format!("{rungs},unwind");
    let [by_kernel, own] = [&*by_kernel, rungs].map(|rungs| {
        let options = ["-v", "--kernel-stacks", "--probe-rung", rungs];
        Tracer::of_with(work.pid(), &options)
    });
    let done = work.run();
    let (own, by_kernel) = (own.stop(), by_kernel.stop());
    own.check_nothing_lost();
    let (told, expected) = (stacks(&own, done.pid), stacks(&by_kernel, done.pid));
    own.check(told.len() >= 40, || format!("{} faults", told.len()));
    // Now and then a CPU runs no BPF program for a while (docs/how-it-works.md).
    let both: Vec<_> = told
        .keys()
        .filter(|key| expected.contains_key(*key))
        .collect();
    own.check(both.len() * 10 >= told.len() * 9, || {
        format!("{} of {} faults told by both", both.len(), told.len())
    });
    for key in both {
        assert_eq!(told[key], expected[key], "{arguments:?}, {rungs}: {key:?}");
    }
    let [recognised, looked_at] =
        ["stacks_recognised", "stack_checks"].map(|name| counted(&own, name));
    eprintln!("{arguments:?}, {rungs}: {recognised} of {looked_at} stacks recognised");
    assert!(recognised * 2 >= looked_at && recognised > 0);
    assert_eq!(counted(&by_kernel, "stacks_recognised"), 0);
    work.exit();
}

#[test]
fn stacks_are_those_that_the_kernel_unwinds() {
    let bench = start();
    let options = Options {
        delay_us: 2_000,
        ..Options::default()
    };
    for rungs in ["typed", "raw"] {
        let slow = SlowFs::mount_in(bench.subdirectory(&format!("slow-{rungs}")), &options);
        let file = slow.file().to_str().expect("our own path");
        compare(&["touch", file, "--threads=2", "--touches=50"], rungs);
        compare(&["userfaultfd", "--pages=40", "--delay-ms=2"], rungs);
    }
}
