//! Labels of goroutines, which the programs keep once for each set of them.

use std::collections::HashMap;
use std::sync::Arc;

use faulttrace_ebpf::goroutine::{KEY_LEN, Label, Labels, VALUE_LEN};

use crate::model::{GoLabels, Name};

/// Sets that are remembered; the programs keep no more at a time.
const MAX_SETS: usize = 8_192;

/// Those that were asked for. The id is a hash of them, so what it means does not change.
#[derive(Default)]
pub(super) struct Known {
    sets: HashMap<u64, Arc<GoLabels>>,
    /// Sets that the programs kept no more when they were asked for.
    gone: u64,
}

impl Known {
    /// The set of an id; `read` gets what is not known yet.
    pub(super) fn get(
        &mut self,
        id: u64,
        read: impl FnOnce(u64) -> Option<Labels>,
    ) -> Option<Arc<GoLabels>> {
        if id == 0 {
            return None;
        }
        if let Some(known) = self.sets.get(&id) {
            return Some(Arc::clone(known));
        }
        let Some(read) = read(id) else {
            self.gone += 1;
            return None;
        };
        let labels = Arc::new(labels(&read));
        if self.sets.len() >= MAX_SETS {
            self.sets.clear();
        }
        self.sets.insert(id, Arc::clone(&labels));
        Some(labels)
    }

    /// How many sets could not be had since this was last asked.
    pub(super) fn take_gone(&mut self) -> u64 {
        std::mem::take(&mut self.gone)
    }
}

fn labels(read: &Labels) -> GoLabels {
    let count = usize::try_from(read.count).unwrap_or(usize::MAX);
    let mut kept: Vec<_> = read.labels.iter().take(count).map(pair).collect();
    kept.sort();
    let left_out = count.saturating_sub(kept.len());
    GoLabels {
        kept,
        left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
    }
}

fn pair(label: &Label) -> (Name, Name) {
    (
        text(&label.key, label.key_len, KEY_LEN),
        text(&label.value, label.value_len, VALUE_LEN),
    )
}

/// The bytes that were kept of a string of this length.
fn text(bytes: &[u8], length: u32, room: usize) -> Name {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let kept = bytes.get(..length.min(room - 1)).unwrap_or_default();
    if kept.len() == length {
        return Name::from(kept);
    }
    // Not in the middle of a character.
    let whole = String::from_utf8_lossy(kept);
    let cut = whole.trim_end_matches(char::REPLACEMENT_CHARACTER);
    Name::from(format!("{cut}…").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str) -> Label {
        let mut label = Label {
            key_len: u32::try_from(key.len()).expect("short"),
            value_len: u32::try_from(value.len()).expect("short"),
            key: [0; KEY_LEN],
            value: [0; VALUE_LEN],
        };
        for (to, from) in label.key.iter_mut().take(KEY_LEN - 1).zip(key.bytes()) {
            *to = from;
        }
        for (to, from) in label
            .value
            .iter_mut()
            .take(VALUE_LEN - 1)
            .zip(value.bytes())
        {
            *to = from;
        }
        label
    }

    #[test]
    fn labels_come_in_the_order_of_their_keys_and_long_ones_are_cut() {
        let long = "ä".repeat(40);
        let read = Labels {
            count: 6,
            padding: 0,
            labels: [
                label("request", "/api"),
                label("a", ""),
                label(&"k".repeat(31), "whole"),
                label("path", &long),
            ],
        };
        let mut known = Known::default();
        let found = known.get(5, |_| Some(read)).expect("read");
        let kept: Vec<_> = found
            .kept
            .iter()
            .map(|(key, value)| {
                let text = |name: &Name| String::from_utf8(name.as_bytes().to_vec());
                (text(key).expect("text"), text(value).expect("text"))
            })
            .collect();
        assert_eq!(kept[0], ("a".to_owned(), String::new()));
        assert_eq!(kept[1].0, "k".repeat(31));
        assert_eq!(kept[2], ("path".to_owned(), format!("{}…", "ä".repeat(31))));
        assert_eq!(kept[3].1, "/api");
        assert_eq!(found.left_out, 2);
        assert!(known.get(5, |_| None).is_some(), "remembered");
        assert!(known.get(0, |_| Some(read)).is_none());
        assert_eq!(known.take_gone(), 0);
        assert!(known.get(6, |_| None).is_none());
        assert_eq!((known.take_gone(), known.take_gone()), (1, 0));
    }

    #[test]
    fn numbers_that_make_no_sense_are_survived() {
        let mut one = label("k", "v");
        (one.key_len, one.value_len) = (u32::MAX, u32::MAX);
        let read = Labels {
            count: u32::MAX,
            padding: 0,
            labels: [one; 4],
        };
        let found = labels(&read);
        assert_eq!((found.kept.len(), found.left_out), (4, u32::MAX - 4));
    }
}
