//! How many lines of a kind there may be in a second.

/// The lines of the second that is under way.
#[derive(Debug, Default)]
pub(super) struct Quota {
    said: u32,
    unsaid: u64,
}

impl Quota {
    /// Whether there may be one more, with `most` in a second; counts it either way.
    pub(super) fn takes(&mut self, most: u32) -> bool {
        let takes = self.said < most;
        if takes {
            self.said += 1;
        } else {
            self.unsaid += 1;
        }
        takes
    }

    /// The second is over; returns how many lines were left out in it.
    pub(super) fn turn(&mut self) -> u64 {
        self.said = 0;
        std::mem::take(&mut self.unsaid)
    }
}
