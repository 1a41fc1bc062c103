//! Pages that had been in memory and were removed (`--evictions`).

use super::*;
use crate::model::summary::samples;
use crate::model::{How, Past};

/// A page that had been removed so, by a process, while another filled the page cache.
fn refault(n: u64, how: How, filler: u32) -> Fault {
    let mut one = read(n, n % 64, single());
    let mut history = samples::history();
    if let Past::Refault(removal) = &mut history.past {
        removal.how = how;
        if let Some(filled) = &mut removal.filled {
            filled.pid = filler;
        }
    }
    one.history = Some(Box::new(history));
    one
}

#[test]
fn what_was_evicted_wants_so_much_more_memory_or_its_neighbour_moved() {
    let all = advised((0..1000).map(|n| refault(n, How::MemcgReclaim, 5100)));
    let evicted = of_rule(&all, Rule::Evicted);
    assert_eq!(evicted.faults, 1000);
    // 2560 pages, to a percent.
    let more = evicted.actions.iter().find_map(|action| match action {
        Action::MoreMemoryBy { bytes } => Some(bytes / PAGE),
        _ => None,
    });
    assert!(
        more.is_some_and(|pages| pages.abs_diff(2560) <= 26),
        "{more:?}"
    );
    assert!(has(evicted, Action::MoveNeighbour));
    // What is said of the file leaves that to it, and is partly about the same.
    let again = of_rule(&all, Rule::ReadAgain);
    assert!(!has(again, Action::MoreMemory) && again.only_if.is_none());
    assert!(!again.overlaps.is_empty() && !evicted.overlaps.is_empty());
    // Nobody else filled it.
    let own = advised((0..1000).map(|n| refault(n, How::MemcgReclaim, 4700)));
    assert!(!has(of_rule(&own, Rule::Evicted), Action::MoveNeighbour));
}

#[test]
fn what_was_dropped_is_to_be_kept() {
    let all = advised((0..1000).map(|n| refault(n, How::Fadvise, 5100)));
    let dropped = of_rule(&all, Rule::Dropped);
    assert_eq!(dropped.actions, [Action::KeepPages]);
    assert!(!rules(&all).contains(&Rule::Evicted));
}

fn of_rule(all: &Advised, rule: Rule) -> &Advice {
    let found = all.given.iter().find(|one| one.rule == rule);
    found.unwrap_or_else(|| panic!("{all:#?}"))
}
