//! Made-up traces through the whole of it: the fold, the rules, and what is left of them.

mod agree;
mod devices;
mod files;
mod go;
mod lock;
mod others;
mod pages;
mod removed;

use std::sync::Arc;

use super::{Action, Advice, Advised, Rule};
use crate::model::analysis::tests::{Random, analyse, during, records};
use crate::model::analysis::{Options, Wall};
use crate::model::summary::samples::T0;
use crate::model::{Cause, Fault, Frame, MappingKind, Mode, Name, Record, Stack};

pub(super) const MS: u64 = 1_000_000;
const PAGE: u64 = 4096;

/// A stack of these functions.
fn stack(functions: &[&str]) -> Arc<Stack> {
    let frames = functions.iter().map(|function| Frame {
        function: Some(Name::from(*function)),
        ..Frame::default()
    });
    Arc::new(Stack {
        id: 1,
        frames: frames.collect(),
        truncated: false,
    })
}

/// Where a thread sleeps that reads one page.
fn single() -> Arc<Stack> {
    stack(&[
        "folio_wait_bit_common",
        "filemap_read_folio",
        "filemap_fault",
    ])
}

/// Where it sleeps if the read is of more.
fn ahead() -> Arc<Stack> {
    stack(&["folio_wait_bit_common", "filemap_fault"])
}

/// The fault of this number in a trace, each 2 ms after the one before, blocked for 1 ms.
fn nth(n: u64) -> Fault {
    let mut nth = during(1, n * 2 * MS, n * 2 * MS + MS);
    nth.history = None;
    nth
}

/// One that reads a page of a file.
fn read(n: u64, page: u64, stack: Arc<Stack>) -> Fault {
    let mut one = nth(n);
    one.facts.place.offset = Some(page * PAGE);
    one.facts.kernel_stack = Some(stack);
    one
}

/// One that waits for a read of somebody else.
fn wait(n: u64, page: u64) -> Fault {
    let mut one = read(n, page, ahead());
    one.facts.cause = Some(Cause::ReadWait);
    one.major = false;
    one
}

fn on(mut fault: Fault, path: &str, mapping: MappingKind) -> Fault {
    fault.facts.place.path = Some(Name::from(path));
    fault.facts.place.mapping = Some(mapping);
    fault
}

/// What is said of a trace of these faults, twice as long as they are.
fn advised(faults: impl IntoIterator<Item = Fault>) -> Advised {
    with(&[], faults)
}

/// The same with other records before.
fn with(before: &[Record], faults: impl IntoIterator<Item = Fault>) -> Advised {
    let mut faults: Vec<_> = faults.into_iter().collect();
    faults.sort_by_key(|one| one.end_ns);
    let end_ns = faults.last().map_or(T0, |one| one.end_ns);
    let mut all = before.to_vec();
    all.extend(records(faults));
    let wall = Some(Wall {
        begin_ns: T0,
        end_ns: end_ns + (end_ns - T0),
    });
    let options = Options {
        wall,
        ..Options::default()
    };
    analyse(options, &all).advice.unwrap()
}

fn rules(advised: &Advised) -> Vec<Rule> {
    advised.given.iter().map(|one| one.rule).collect()
}

fn only(advised: &Advised) -> &Advice {
    assert_eq!(advised.given.len(), 1, "{advised:#?}");
    &advised.given[0]
}

/// Pages of a file of so many, none twice, in no order.
fn scattered(count: u64, of: u64) -> Vec<u64> {
    let mut random = Random(29);
    let mut pages = std::collections::HashSet::new();
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let page = random.below(of);
        if pages.insert(page) {
            all.push(page);
        }
    }
    all
}

fn has(advice: &Advice, action: Action) -> bool {
    advice.actions.contains(&action)
}
