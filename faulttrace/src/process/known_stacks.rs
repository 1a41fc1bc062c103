//! User stacks with their names, as many as there is room for. A hostile file can give a stack a
//! thousand long names, so room is counted in bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::model::{Frame, Stack};

/// Room for all of them. A stack of 40 frames takes some 10 KiB, so as many as the kernel keeps by default
/// have room; those that are named again are new to whoever writes them down.
const MAX_BYTES: usize = 160 << 20;

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
    /// By process, then by id, with the number of the last use.
    all: HashMap<u32, HashMap<u64, (u64, Known)>>,
    bytes: usize,
    uses: u64,
}

impl KnownStacks {
    pub(super) fn get(&mut self, pid: u32, id: u64) -> Option<&Known> {
        self.uses += 1;
        let (used, known) = self.all.get_mut(&pid)?.get_mut(&id)?;
        *used = self.uses;
        Some(known)
    }

    /// Forgets others if there is no room.
    pub(super) fn keep(&mut self, pid: u32, known: Known) {
        let bytes = bytes_of(&known.stack.frames);
        if self.bytes.saturating_add(bytes) > MAX_BYTES {
            self.make_room(bytes);
        }
        self.uses += 1;
        let of_process = self.all.entry(pid).or_default();
        let replaced = of_process.insert(known.stack.id, (self.uses, known));
        let freed = replaced.map_or(0, |(_, old)| bytes_of(&old.stack.frames));
        self.bytes = self.bytes.saturating_sub(freed) + bytes;
    }

    /// Forgets those that were not used for longest, half of all: to look for them takes its time.
    fn make_room(&mut self, bytes: usize) {
        let all = self.all.iter();
        let mut oldest: Vec<(u64, u32, u64)> = all
            .flat_map(|(pid, stacks)| stacks.iter().map(|(id, (used, _))| (*used, *pid, *id)))
            .collect();
        oldest.sort_unstable();
        let enough = (MAX_BYTES / 2).min(MAX_BYTES.saturating_sub(bytes));
        for (_, pid, id) in oldest {
            if self.bytes <= enough {
                break;
            }
            let Some(stacks) = self.all.get_mut(&pid) else {
                continue;
            };
            let gone = stacks.remove(&id);
            let freed = gone.map_or(0, |(_, known)| bytes_of(&known.stack.frames));
            self.bytes = self.bytes.saturating_sub(freed);
            if stacks.is_empty() {
                self.all.remove(&pid);
            }
        }
    }

    /// Some of the names have not come, and are to be asked for again then.
    pub(super) fn ask_again(&mut self, pid: u32, id: u64, at: Instant) {
        let known = self.all.get_mut(&pid).and_then(|of| of.get_mut(&id));
        if let Some((_, known)) = known {
            known.again_at = Some(at);
            known.waits = true;
        }
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
        let freed: usize = gone
            .map(|(_, (_, known))| bytes_of(&known.stack.frames))
            .sum();
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

    fn known(id: u64, names: &[u8]) -> Known {
        let frame = |name| Frame {
            function: Some(Name::from(name)),
            ..Frame::default()
        };
        Known {
            stack: Arc::new(Stack {
                id,
                frames: names.chunks(Name::MAX_BYTES).map(frame).collect(),
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
            if id > 0 {
                assert!(stacks.get(1, id - 1).is_some(), "nor is it alone");
            }
        }
        let left = stacks.all.get(&1).map_or(0, HashMap::len);
        assert!((1..256).contains(&left), "{left}");
    }

    #[test]
    fn those_that_are_used_are_kept() {
        let name = vec![b'x'; 1 << 20];
        let mut stacks = KnownStacks::default();
        stacks.keep(1, known(7, b"f"));
        stacks.keep(2, known(7, b"g"));
        for id in 1000..2000 {
            stacks.keep(3, known(id, &name));
            assert!(stacks.get(1, 7).is_some(), "{id}");
        }
        assert!(stacks.get(2, 7).is_none() && stacks.get(3, 1000).is_none());
        assert!(!stacks.all.contains_key(&2), "nothing is left of it");
    }

    #[test]
    fn one_that_is_larger_than_the_room_is_alone() {
        let mut stacks = KnownStacks::default();
        stacks.keep(1, known(7, b"f"));
        stacks.keep(1, known(8, &vec![b'x'; MAX_BYTES]));
        assert!(stacks.get(1, 7).is_none() && stacks.get(1, 8).is_some());
        stacks.keep(1, known(9, b"f"));
        assert!(stacks.get(1, 8).is_none() && stacks.get(1, 9).is_some());
        assert!(stacks.bytes <= MAX_BYTES);
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
