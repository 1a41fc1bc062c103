//! User stacks with their names, as many as there is room for. A hostile file can give a stack a
//! thousand long names, so room is counted in bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::model::{Frame, Stack};

/// Room for all of them. A stack of 40 frames takes some 10 KiB.
const MAX_BYTES: usize = 32 << 20;

/// A stack of a process, with its names or still without.
pub(super) struct Known {
    pub(super) stack: Arc<Stack>,
    /// Names are to come.
    pub(super) waits: bool,
    /// Something was missing that may be there then.
    pub(super) again_at: Option<Instant>,
    /// Frame pointers hide who called the innermost function.
    pub(super) hides_caller: bool,
}

impl Known {
    /// Nothing more is to come.
    pub(super) fn is_settled(&self) -> bool {
        !self.waits && self.again_at.is_none()
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct KnownStacks {
    /// By process, then by id.
    all: HashMap<u32, HashMap<u64, Known>>,
    bytes: usize,
}

impl KnownStacks {
    pub(super) fn get(&self, pid: u32, id: u64) -> Option<&Known> {
        self.all.get(&pid)?.get(&id)
    }

    /// Forgets all others if there is no room.
    pub(super) fn keep(&mut self, pid: u32, known: Known) {
        let bytes = bytes_of(&known.stack.frames);
        if self.bytes.saturating_add(bytes) > MAX_BYTES {
            self.all.clear();
            self.bytes = 0;
        }
        let of_process = self.all.entry(pid).or_default();
        let replaced = of_process.insert(known.stack.id, known);
        let freed = replaced.map_or(0, |old| bytes_of(&old.stack.frames));
        self.bytes = self.bytes.saturating_sub(freed) + bytes;
    }

    /// The names have come.
    pub(super) fn name(&mut self, pid: u32, id: u64, frames: Vec<Frame>, hides_caller: bool) {
        let Some(known) = self.get(pid, id) else {
            return;
        };
        let stack = Arc::new(Stack {
            frames,
            ..*known.stack
        });
        let again_at = known.again_at;
        let named = Known {
            stack,
            waits: false,
            again_at,
            hides_caller,
        };
        self.keep(pid, named);
    }

    /// A process has ended or has another program.
    pub(super) fn forget(&mut self, pid: u32) {
        let gone = self.all.remove(&pid).into_iter().flatten();
        let freed: usize = gone.map(|(_, known)| bytes_of(&known.stack.frames)).sum();
        self.bytes = self.bytes.saturating_sub(freed);
    }
}

/// How much memory a stack with these frames takes here at most.
pub(super) fn bytes_of(frames: &[Frame]) -> usize {
    size_of::<Known>() + Frame::bytes_of(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    fn known(id: u64, name: &[u8]) -> Known {
        let frame = Frame {
            function: Some(Name::from(name)),
            ..Frame::default()
        };
        Known {
            stack: Arc::new(Stack {
                id,
                frames: vec![frame],
                truncated: false,
            }),
            waits: true,
            again_at: None,
            hides_caller: false,
        }
    }

    #[test]
    fn long_names_take_no_more_than_there_is_room_for() {
        let name = vec![b'x'; 1 << 20];
        let mut stacks = KnownStacks::default();
        for id in 0..1000 {
            stacks.keep(1, known(id, &name));
            assert!(stacks.bytes <= MAX_BYTES);
            assert!(stacks.get(1, id).is_some(), "the last is there");
        }
        let left = stacks.all.get(&1).map_or(0, HashMap::len);
        assert!((1..256).contains(&left), "{left}");
    }

    #[test]
    fn what_is_forgotten_makes_room() {
        let mut stacks = KnownStacks::default();
        stacks.keep(1, known(7, b"f"));
        let before = stacks.bytes;
        stacks.keep(1, known(7, b"f"));
        stacks.name(1, 7, vec![Frame::default()], false);
        assert!(stacks.bytes < before);
        assert!(stacks.get(1, 7).is_some_and(|known| !known.waits));
        stacks.keep(2, known(7, b"g"));
        stacks.forget(1);
        stacks.forget(2);
        stacks.forget(3);
        assert_eq!((stacks.bytes, stacks.get(2, 7).is_some()), (0, false));
    }
}
