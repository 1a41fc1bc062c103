//! A steady load for long: every fault counted, nothing lost, no growth.

use std::time::{Duration, Instant};

use super::watched::Watched;
use crate::harness::Bench;
use crate::harness::disk::{create, evict};
use crate::harness::saved::succeed;
use crate::harness::work::Work;

/// Pages of the file that is touched: 64 MiB.
const PAGES: usize = 16_384;

/// Traces `rate` faults a second for so long. Panics if anything is not as it should be; returns
/// what is to be said.
pub fn run(bench: &Bench, time: Duration, rate: u32) -> String {
    let file = bench.path().join("data");
    create(&file, PAGES);
    evict(&file);
    let saved = bench.path().join("soak.faulttrace");
    let rate_option = format!("--rate={rate}");
    let mut work = Work::start(["paced".as_ref(), file.as_os_str(), rate_option.as_ref()]);
    let pid = work.pid();
    let arguments = [
        "--pid",
        &pid.to_string(),
        "--max-size=32M",
        "--output",
        saved.to_str().expect("our own path"),
    ];
    let mut tracer = Watched::start(&arguments.map(str::to_owned));
    let begin = Instant::now();
    work.go();
    tracer.take_for(time);
    work.say("enough");
    let done = work.done();
    let took = begin.elapsed();
    let report = tracer.stop(true);
    work.exit();
    report.check();
    let [reported, counted, lost] = report.check_majors(pid, 0);
    assert_eq!(
        counted, done.stat_majors,
        "the workload's own count of majors"
    );
    let touched = done.figures["touched"];
    // Touches of a page that eviction left are no majors; there are few.
    assert!(
        reported + lost <= touched + 16 && (reported + lost) * 100 >= touched * 95,
        "{touched} touches, {reported} majors"
    );
    let growth = report.growth.expect("it was asked for");
    growth.check(time);
    succeed(["report".as_ref(), saved.as_os_str()]);
    let per_second = touched as f64 / took.as_secs_f64();
    assert!(
        per_second * 2.0 >= f64::from(rate),
        "the machine is too slow for half of {rate} faults a second: {per_second:.0}"
    );
    format!(
        "soak: {took:.0?}, {per_second:.0} touches/s of {rate} wanted; majors: {reported} reported, {counted} counted by the kernel, {lost} events lost; {} stuck records; memory of the tracer, KiB: {growth:?}; other losses: {:?}",
        report.told.stuck, report.told.lost
    )
}
