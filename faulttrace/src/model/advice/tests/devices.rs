//! Devices that have too much to do (`--io`).

use super::*;
use crate::model::advice::{About, Evidence, How};
use crate::model::summary::samples;

/// A read whose two requests were queued and served for so long each.
fn asked(n: u64, queued_ns: u64, served_ns: u64) -> Fault {
    let mut one = read(n, n % 64, single());
    let mut io = samples::io();
    (io.completed, io.queued_ns, io.served_ns) = (2, 2 * queued_ns, 2 * served_ns);
    one.io = Some(Box::new(io));
    one
}

fn of_device(all: &Advised) -> Option<&Advice> {
    let found = all.given.iter().find(|one| one.rule == Rule::BusyDevice);
    found.inspect(|one| assert!(matches!(one.about, About::Device(_))))
}

#[test]
fn a_device_with_too_much_to_do_is_to_have_less() {
    let all = advised((0..1000).map(|n| asked(n, MS, MS / 2)));
    let busy = of_device(&all).expect("advice about the device");
    assert_eq!(busy.faults, 1000);
    assert_eq!(busy.actions, [Action::QuietDevice, Action::OtherDevice]);
    // Never more than what was blocked.
    let at_most_ns = busy.gain.at_most_ns.expect("a gain");
    assert_eq!(at_most_ns, (1000 * 2 * MS).min(busy.blocked_ns));
    assert_eq!(busy.gain.how, How::Queued);
    let evidence = Evidence::Requests {
        completed: 2000,
        queued_ns: MS,
        served_ns: MS / 2,
    };
    assert_eq!(busy.evidence, [evidence]);
    // What is said of the file is about the same reads.
    let others = all.given.iter().filter(|one| one.rule != Rule::BusyDevice);
    assert!(others.clone().count() > 0);
    assert!(others.clone().any(|one| !one.overlaps.is_empty()));
    assert!(!busy.overlaps.is_empty());
}

#[test]
fn a_limit_is_to_be_raised() {
    let limited = (0..1000).map(|n| {
        let mut one = asked(n, MS / 10, MS / 10);
        if let Some(io) = &mut one.io {
            io.held_ns = Some(if n % 5 == 0 { 100 * MS } else { 0 });
        }
        one
    });
    let all = advised(limited);
    let about = |one: &&Advice| matches!(one.about, About::Device(_));
    let [one] = all.given.iter().filter(about).collect::<Vec<_>>()[..] else {
        panic!("{all:#?}");
    };
    assert_eq!(one.rule, Rule::LimitedDevice);
    assert_eq!(one.actions, [Action::RaiseIoLimit]);
    let [Evidence::HeldBack(totals)] = &one.evidence[..] else {
        panic!("{one:#?}");
    };
    assert_eq!((totals.held, totals.held_ns), (200, 200 * 100 * MS));
    assert_eq!(one.gain.how, How::HeldBack);
    assert!(one.gain.at_most_ns <= Some(one.blocked_ns));
}

#[test]
fn a_slow_one_and_a_quick_one_are_what_they_are() {
    for (queued_ns, served_ns) in [(MS / 2, MS), (MS / 10, MS / 20)] {
        let all = advised((0..1000).map(|n| asked(n, queued_ns, served_ns)));
        assert!(of_device(&all).is_none(), "{all:#?}");
    }
}
