//! What samples tell, and when, without a kernel.

use super::*;

const MS: u64 = 1_000_000;

fn entry(tid: u32, start_ns: u64, in_ns: u64) -> Inflight {
    // SAFETY: integers only; zero is a value of each.
    let mut entry: Inflight = unsafe { std::mem::zeroed() };
    (entry.tgid, entry.tid, entry.asleep) = (4700, tid, 1);
    (entry.start_ns, entry.in_ns) = (start_ns, in_ns);
    entry
}

fn now<'a>(ms: u64, entries: &'a [Inflight], stuck: &'a StuckThreads) -> Now<'a> {
    Now {
        ns: ms * MS,
        entries,
        stuck,
        end_ns: u64::MAX,
    }
}

fn samples(asked: Option<u32>) -> Samples {
    Samples::new(None, asked, [4700].into_iter())
}

fn released(samples: &mut Samples) -> Vec<Sample> {
    let mut batch = Vec::new();
    samples.release(u64::MAX, |ns| ns, &mut batch);
    let sample = |record| match record {
        Record::Sample(sample) => Arc::unwrap_or_clone(sample),
        other => panic!("{other:?}"),
    };
    batch.into_iter().map(sample).collect()
}

#[test]
fn what_goes_on_holds_a_sample_back_until_it_is_reported_as_stuck() {
    let mut stuck = StuckThreads::new(Duration::from_millis(100));
    let mut samples = samples(None);
    let entries = [entry(1, 950 * MS, 0), entry(2, 980 * MS, 990 * MS)];
    samples.ask(&now(1_000, &entries, &stuck));
    let first = released(&mut samples);
    assert_eq!(
        (first[0].time_ns, first[0].settled_ns),
        (1_000 * MS, 950 * MS)
    );
    assert_eq!(first[0].in_fault, 1, "the other one runs");
    assert_eq!(first[0].process, ProcessCounters::default(), "nobody reads");
    // One is told, and of the other nobody will ever know.
    for one in &entries {
        stuck.look(one, 4_000 * MS);
    }
    samples.ask(&now(4_000, &entries, &stuck));
    assert_eq!(released(&mut samples)[0].settled_ns, 3_990 * MS);
    assert_eq!(samples.take_losses().len(), 1, "both were without counters");
}

#[test]
fn a_sample_waits_for_what_was_in_the_ring() {
    let stuck = StuckThreads::new(Duration::from_millis(100));
    let mut samples = samples(Some(7));
    samples.ask(&now(1_000, &[], &stuck));
    let mut batch = Vec::new();
    samples.release(999 * MS, |ns| ns, &mut batch);
    assert!(batch.is_empty() && samples.has_ready());
    samples.release(1_000 * MS, |ns| ns, &mut batch);
    assert_eq!(batch.len(), 1);
    let Some(Record::Sample(sample)) = batch.pop() else {
        panic!("a sample")
    };
    assert_eq!(sample.stall_threads, 7, "as asked for");
}

#[test]
fn nothing_is_settled_after_the_end() {
    let stuck = StuckThreads::new(Duration::from_millis(100));
    let mut samples = samples(None);
    let after = Now {
        end_ns: 900 * MS,
        ..now(1_000, &[], &stuck)
    };
    samples.ask_last(&after);
    let all = released(&mut samples);
    assert_eq!(all[0].time_ns, 1_000 * MS);
    assert_eq!(all[0].settled_ns, 900 * MS - MARGIN_NS);
}

#[test]
fn those_with_faults_come_more_often_and_none_waits_for_ever() {
    let stuck = StuckThreads::new(Duration::from_millis(100));
    let mut samples = samples(None);
    let taken = |samples: &mut Samples, ms| {
        samples.ask(&now(ms, &[], &stuck));
        let all = released(samples);
        all.into_iter().map(|sample| sample.pid).collect::<Vec<_>>()
    };
    assert_eq!(taken(&mut samples, 0), [4700]);
    assert!(
        taken(&mut samples, 250).is_empty(),
        "a target without faults"
    );
    assert_eq!(taken(&mut samples, 1_000), [4700]);
    for pid in 1..=100 {
        samples.fault(pid, pid, u64::from(pid) * MS);
    }
    let first = taken(&mut samples, 1_250);
    assert_eq!(first.len(), MAX_PROCESSES);
    assert_eq!(samples.left_out, 36);
    let second = taken(&mut samples, 1_500);
    assert!((1..=100).all(|pid| first.contains(&pid) || second.contains(&pid)));
    // Long after, those are forgotten who are no targets.
    assert_eq!(taken(&mut samples, 60_000), [4700]);
}

#[test]
fn the_end_of_a_process_tells_all_there_is() {
    let stuck = StuckThreads::new(Duration::from_millis(100));
    let mut samples = samples(None);
    samples.fault(4700, 1, MS);
    samples.ask(&now(1, &[entry(1, MS, 0)], &stuck));
    let mut batch = Vec::new();
    samples.ended(4700, 9 * MS, |ns| ns, &mut batch);
    let settled = |record: &Record| match record {
        Record::Sample(sample) => sample.settled_ns,
        other => panic!("{other:?}"),
    };
    assert_eq!(batch.iter().map(settled).max(), Some(9 * MS));
    assert_eq!(batch.len(), 2);
    samples.ended(4700, 9 * MS, |ns| ns, &mut batch);
    assert_eq!(batch.len(), 2, "once");
}
