//! What a summary may still remember, over all its tables.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Limits;
use crate::model::{Frame, Name, Stack};

/// Bytes of the names and paths of all keys. Hundreds of thousands of real ones have less.
const MAX_KEY_BYTES: usize = 64 << 20;

/// What is taken of the limits. Equal stacks of several processes are kept once: a process that
/// forks a thousand times has them a thousand times.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) limits: Limits,
    keys: usize,
    key_bytes: usize,
    stacks: HashSet<Content>,
    stack_bytes: usize,
}

/// A stack, equal to those with the same frames.
#[derive(Debug)]
struct Content(Arc<Stack>);

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0 == *other.0
    }
}

impl Eq for Content {}

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The id is made from the addresses, and names mostly follow from these.
        self.0.id.hash(state);
        self.0.frames.len().hash(state);
    }
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Room {
            limits,
            ..Room::default()
        }
    }

    /// Whether a table of this length may have one key more.
    pub(super) fn has_key(&self, table_len: usize) -> bool {
        table_len < self.limits.keys_per_table && self.keys < self.limits.keys_in_all
    }

    /// A table has one key more.
    pub(super) fn take_key(&mut self) {
        self.keys += 1;
    }

    /// Takes room for the name or path of a key; `false` if there is none.
    pub(super) fn take_name(&mut self, name: Option<&Name>) -> bool {
        let bytes = name.map_or(0, |name| name.as_bytes().len());
        let bytes = self.key_bytes.saturating_add(bytes);
        let has_room = bytes <= MAX_KEY_BYTES;
        if has_room {
            self.key_bytes = bytes;
        }
        has_room
    }

    /// Takes room for another name in the place of one that has some; `false` if there is none.
    pub(super) fn rename(&mut self, old: &Name, new: &Name) -> bool {
        let former = self.key_bytes;
        self.key_bytes = former.saturating_sub(old.as_bytes().len());
        let has_room = self.take_name(Some(new));
        if !has_room {
            self.key_bytes = former;
        }
        has_room
    }

    /// The stack, shared with all that are equal; `None` if there is no room for it.
    pub(super) fn share(&mut self, stack: &Arc<Stack>) -> Option<Arc<Stack>> {
        let content = Content(Arc::clone(stack));
        if let Some(known) = self.stacks.get(&content) {
            return Some(Arc::clone(&known.0));
        }
        let bytes = self
            .stack_bytes
            .saturating_add(size_of::<Stack>() + Frame::bytes_of(&stack.frames));
        if bytes > self.limits.stack_bytes {
            return None;
        }
        self.stack_bytes = bytes;
        self.stacks.insert(content);
        Some(Arc::clone(stack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_take_room() {
        let mut room = Room::default();
        let long = Name::from(vec![b'x'; Name::MAX_BYTES].as_slice());
        for _ in 0..MAX_KEY_BYTES / Name::MAX_BYTES {
            assert!(room.take_name(Some(&long)));
        }
        assert!(room.take_name(None));
        let short = Name::from("x");
        assert!(!room.take_name(Some(&short)));
        assert!(room.rename(&long, &short), "the former gives its own back");
        assert!(room.take_name(Some(&short)) && !room.rename(&short, &long));
    }
}
