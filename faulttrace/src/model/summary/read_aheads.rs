//! What faults had read of files ahead, all together.

use std::collections::HashMap;

use crate::model::{AheadPages, Name, ReadAhead};

/// Files that are remembered, those first told of; what is beyond is counted together. A path may have 64 KiB.
const MAX_FILES: usize = 256;

/// The sums, by file.
#[derive(Debug, Clone, Default)]
pub struct ReadAheads {
    files: HashMap<Option<Name>, AheadPages>,
    others: AheadPages,
}

impl ReadAheads {
    /// Takes one more time into account.
    pub(super) fn add(&mut self, ahead: &ReadAhead) {
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&ahead.path) {
            self.others.add(&ahead.pages);
        } else {
            let file = self.files.entry(ahead.path.clone()).or_default();
            file.add(&ahead.pages);
        }
    }

    /// Whether it was told of.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Of the file of this path; `None` if nothing was told.
    pub fn of(&self, path: &Name) -> Option<&AheadPages> {
        self.files.get(&Some(path.clone()))
    }

    /// The files of which most was read in vain, by path, and what all others add up to.
    pub fn top(&self, rows: usize) -> (Vec<(Option<&Name>, &AheadPages)>, AheadPages) {
        let mut all: Vec<_> = self
            .files
            .iter()
            .map(|(path, pages)| (path.as_ref(), pages))
            .collect();
        let in_vain = |pages: &AheadPages| (pages.in_vain(), pages.read);
        all.sort_by(|(a, one), (b, other)| {
            in_vain(other).cmp(&in_vain(one)).then_with(|| a.cmp(b))
        });
        let mut rest = self.others;
        for (_, pages) in all.drain(rows.min(all.len())..) {
            rest.add(pages);
        }
        (all, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(path: &str, read: u64, mapped: u64) -> ReadAhead {
        ReadAhead {
            begin_ns: 0,
            end_ns: 1,
            path: Some(Name::from(path)),
            pages: AheadPages {
                read,
                mapped,
                ..AheadPages::default()
            },
        }
    }

    #[test]
    fn what_was_read_in_vain_comes_first() {
        let mut sums = ReadAheads::default();
        assert!(sums.is_empty());
        sums.add(&ahead("/used", 1_000, 990));
        sums.add(&ahead("/vain", 60, 1));
        sums.add(&ahead("/vain", 40, 0));
        let (top, rest) = sums.top(1);
        let vain = Name::from("/vain");
        assert_eq!(top[0].0, Some(&vain));
        assert_eq!((top[0].1.read, top[0].1.used_at_most()), (100, 1));
        assert_eq!(sums.of(&vain), Some(top[0].1));
        assert_eq!((rest.read, rest.mapped), (1_000, 990));
    }

    #[test]
    fn files_that_are_remembered_are_bounded() {
        let mut sums = ReadAheads::default();
        for file in 0..2 * MAX_FILES {
            sums.add(&ahead(&format!("/{file}"), 1, 0));
        }
        let (top, rest) = sums.top(usize::MAX);
        assert_eq!((top.len(), rest.read), (MAX_FILES, MAX_FILES as u64));
    }
}
