//! Unit tests of the recorder's end of the session.

use super::*;
use crate::model::Transport;
use crate::model::summary::samples;
use crate::trace::{Order, State, Trace};

fn plan(directory: &tempfile::TempDir) -> SavePlan {
    SavePlan {
        path: directory.path().join("a"),
        force: false,
        max_bytes: None,
    }
}

fn start() -> Arc<Start> {
    match samples::start() {
        Record::Start(start) => start,
        other => panic!("{other:?}"),
    }
}

fn finish(recorder: &mut Recorder) -> Result<Option<Saved>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(recorder.finish())
}

#[test]
fn what_is_handed_over_is_in_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = plan(&directory);
    let mut recorder = Recorder::start(&plan).expect("started");
    recorder.begin(&start());
    for _ in 0..10 {
        recorder.save(vec![samples::record(samples::fault())]);
    }
    let saved = finish(&mut recorder).expect("saved").expect("not failed");
    assert_eq!((saved.faults, saved.dropped), (10, 0));
    let trace = Trace::open(&plan.path).expect("opened");
    assert_eq!(trace.meta().state, State::Complete);
    let mut count = 0;
    let done = trace.records(Order::OldestFirst, |_| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    });
    done.expect("readable");
    assert_eq!(count, 10);
}

#[test]
fn nothing_is_left_of_what_never_began() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Recorder::start(&plan(&directory)).expect("started"));
    let left = std::fs::read_dir(directory.path())
        .expect("directory")
        .count();
    assert_eq!(left, 0);
}

#[test]
fn what_does_not_fit_is_counted_and_the_rest_waits() {
    let (sender, receiver) = sync_channel(1);
    let mut recorder = Recorder::new(Some(sender), None, Arc::default());
    let both = || vec![samples::process_end(), samples::record(samples::fault())];
    recorder.save(both());
    recorder.save(both());
    recorder.save(both());
    recorder.save(vec![
        samples::lost(LossClass::Lost, "x", 2),
        samples::lost(LossClass::Lost, "x", 3),
    ]);
    assert_eq!((recorder.held.len(), recorder.untold.faults), (3, 2));
    let losses = recorder.take_losses();
    let [Record::Lost(lost)] = losses.as_slice() else {
        panic!("not told: {losses:?}")
    };
    assert_eq!((&*lost.reason, lost.count), (OVERRUN, 2));
    assert!(recorder.take_losses().is_empty());
    drop(receiver.recv());
    recorder.nothing();
    let Ok(Message::Records(records, _)) = receiver.recv() else {
        panic!("not sent")
    };
    assert_eq!(records.len(), 3);
    let sum = |record: &Record| match record {
        Record::Lost(lost) => lost.count,
        _ => 0,
    };
    assert_eq!(records.iter().map(sum).sum::<u64>(), 5);
}

#[test]
fn what_waits_is_bounded_whatever_it_is_and_losses_wait_nevertheless() {
    let (sender, receiver) = sync_channel(1);
    let mut recorder = Recorder::new(Some(sender), None, Arc::default());
    let others = || {
        vec![
            samples::process_end(),
            samples::accounting(1, None),
            samples::cache_fill(),
            samples::read_ahead(),
            samples::go_process(),
            samples::lost(LossClass::Lost, "x", 1),
        ]
    };
    let rounds = MAX_HELD as u64;
    // The first is sent.
    for _ in 0..=rounds {
        recorder.save(others());
    }
    recorder.save(vec![Record::Transport(Transport::default())]);
    assert_eq!(recorder.held.len(), MAX_HELD + 1);
    assert!(matches!(recorder.held.last(), Some(Record::Transport(_))));
    let count = |records: &[Record], wanted: &str| -> u64 {
        let losses = records.iter().filter_map(|record| match record {
            Record::Lost(lost) if lost.reason == wanted => Some(lost.count),
            _ => None,
        });
        losses.sum()
    };
    let losses = recorder.take_losses();
    let untold = [PROCESSES_NOT_SAVED, RECORDS_NOT_SAVED].map(|of| count(&losses, of));
    // One of what waits is the loss.
    assert_eq!(untold.iter().sum::<u64>(), 5 * rounds + 1 - rounds);
    assert!(untold[1] > 3 * untold[0], "{untold:?}");
    drop(receiver.recv());
    recorder.nothing();
    let Ok(Message::Records(records, _)) = receiver.recv() else {
        panic!("not sent")
    };
    assert_eq!(count(&records, "x"), rounds);
    assert!(recorder.held.is_empty() && recorder.held_losses.is_empty());
}

#[test]
fn why_a_trace_is_not_complete_waits_for_room_and_comes_last() {
    let (sender, receiver) = sync_channel(1);
    let mut recorder = Recorder::new(Some(sender), None, Arc::default());
    let records = || vec![samples::process_end()];
    recorder.save(records());
    recorder.save(records());
    recorder.abandon("it failed".to_owned());
    assert!(recorder.send_rest(), "there is no room");
    assert!(matches!(receiver.recv(), Ok(Message::Records(..))));
    assert!(recorder.send_rest(), "that of what was held is taken");
    assert!(matches!(receiver.recv(), Ok(Message::Records(..))));
    assert!(!recorder.send_rest());
    let Ok(Message::Abandon(why)) = receiver.recv() else {
        panic!("not told")
    };
    assert_eq!(why, "it failed");
}

#[test]
fn a_trace_whose_session_is_gone_without_a_word_is_not_complete() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = plan(&directory);
    let mut recorder = Recorder::start(&plan).expect("started");
    recorder.begin(&start());
    recorder.save(vec![samples::record(samples::fault())]);
    recorder.sender = None;
    assert!(recorder.join().is_err());
    let trace = Trace::open(&plan.path).expect("opened");
    assert!(matches!(trace.meta().state, State::Stopped(_)));
}
