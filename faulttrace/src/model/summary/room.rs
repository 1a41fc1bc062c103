//! What a summary may still remember, over all its tables.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Limits;
use crate::model::{Frame, Stack};

/// What is taken of the limits. Equal stacks of several processes are kept once: a process that
/// forks a thousand times has them a thousand times.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) limits: Limits,
    keys: usize,
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
