//! Faults of a stall by their files and causes.

use std::collections::HashMap;

use super::StallFile;
use crate::model::summary::FileKey;
use crate::model::{Cause, Facts};

/// Files told of a stall; faults on the rest are counted.
const FILES: usize = 8;
/// Files remembered meanwhile.
const MAX_FILES: usize = 256;

/// The counts. Reused, with their room.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    files: HashMap<FileKey, u64>,
    other_faults: u64,
    causes: Vec<(Option<Cause>, u64)>,
}

impl Counts {
    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.other_faults = 0;
        self.causes.clear();
    }

    pub(super) fn add(&mut self, facts: &Facts) {
        let file = FileKey::of(&facts.place);
        if let Some(faults) = self.files.get_mut(&file) {
            *faults += 1;
        } else if self.files.len() < MAX_FILES {
            self.files.insert(file, 1);
        } else {
            self.other_faults += 1;
        }
        match self.causes.iter_mut().find(|(of, _)| *of == facts.cause) {
            Some((_, faults)) => *faults += 1,
            None => self.causes.push((facts.cause, 1)),
        }
    }

    /// The files with most faults, and how many faults were on others.
    pub(super) fn files(&self) -> (Vec<StallFile>, u64) {
        let mut files: Vec<StallFile> = self
            .files
            .iter()
            .map(|(file, faults)| StallFile {
                file: file.clone(),
                faults: *faults,
            })
            .collect();
        // In one order, whatever that of the map is.
        files.sort_unstable_by(|a, b| b.faults.cmp(&a.faults).then_with(|| a.file.cmp(&b.file)));
        let rest = files.split_off(files.len().min(FILES));
        let others = rest.iter().fold(self.other_faults, |sum, file| {
            sum.saturating_add(file.faults)
        });
        (files, others)
    }

    /// Most faults first.
    pub(super) fn causes(&self) -> Vec<(Option<Cause>, u64)> {
        let mut causes = self.causes.clone();
        causes.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        causes
    }
}
