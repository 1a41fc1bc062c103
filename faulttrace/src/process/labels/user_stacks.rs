//! User stacks with names, and with the callers that frame pointers hide.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Labels;
use crate::model::{Frame, MappingKind, Stack};
use crate::process::elf_files::Origin;
use crate::process::known_stacks::Known;
use crate::process::perf_map::Jit;
use crate::process::space::Space;
use crate::process::symbols::{self, Job, Wanted};

/// How long names are waited for, if nothing is late already.
const NAME_WAIT: Duration = Duration::from_millis(500);
/// When a stack is named again for which something was missing.
pub(super) const NAME_AGAIN: Duration = Duration::from_secs(1);

/// A user stack as it was captured, along frame pointers.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// Equal stacks of one process have the same.
    pub id: u64,
    /// Instruction addresses, innermost first.
    pub frames: &'a [u64],
    /// There may be more.
    pub truncated: bool,
    /// The word at the thread's stack pointer, to which a function without a frame of its own returns;
    /// 0 = not read.
    pub top: u64,
    /// The innermost address is that of an instruction which a thread is at, whose caller may be hidden.
    pub ask_caller: bool,
}

impl Labels {
    /// A user stack with names as far as they are known by now, and with the caller that frame pointers
    /// hide. Stacks that differ in that one have different ids.
    pub fn user_stack(&mut self, pid: u32, captured: Captured<'_>) -> Arc<Stack> {
        let (stack, hides_caller) = self.named(pid, captured);
        if !hides_caller {
            return stack;
        }
        let Captured {
            id, frames, top, ..
        } = captured;
        let Some((innermost, outer)) = frames.split_first().filter(|_| self.is_code(pid, top))
        else {
            self.count("user_callers_hidden", 1);
            return stack;
        };
        let id = with_caller(id, top);
        if let Some((stack, _)) = self.known(pid, id) {
            return stack;
        }
        let frames = [&[*innermost, top], outer].concat();
        let whole = Captured {
            id,
            frames: &frames,
            truncated: captured.truncated,
            top: 0,
            ask_caller: false,
        };
        self.named(pid, whole).0
    }

    /// The stack with its names, and whether frame pointers hide a caller that can be told.
    fn named(&mut self, pid: u32, captured: Captured<'_>) -> (Arc<Stack>, bool) {
        if let Some(known) = self.known(pid, captured.id) {
            return known;
        }
        self.name_stack(pid, captured);
        self.answer(pid, captured.id).unwrap_or_else(|| {
            let unknown = Stack {
                id: captured.id,
                truncated: captured.truncated,
                ..Stack::default()
            };
            (Arc::new(unknown), false)
        })
    }

    /// The same of an id about which there is nothing to ask now.
    fn known(&mut self, pid: u32, id: u64) -> Option<(Arc<Stack>, bool)> {
        let known = self.stacks.get(pid, id)?;
        if !known.is_settled() {
            if known.again_at.is_some_and(|at| Instant::now() >= at) {
                return None;
            }
            self.absorb();
        }
        self.answer(pid, id)
    }

    /// The same, as far as it is known.
    fn answer(&mut self, pid: u32, id: u64) -> Option<(Arc<Stack>, bool)> {
        let known = self.stacks.get(pid, id)?;
        let (answer, waits) = ((Arc::clone(&known.stack), known.hides_caller), known.waits);
        if waits {
            self.count("symbols_late", 1);
        }
        Some(answer)
    }

    fn name_stack(&mut self, pid: u32, captured: Captured<'_>) {
        let Captured {
            id,
            frames,
            truncated,
            ask_caller,
            ..
        } = captured;
        self.absorb();
        let mut complete = self.has_mappings(pid, frames);
        let sound = self.sound_frames(pid, frames);
        // With a hidden caller, it was counted before.
        if sound < frames.len() && ask_caller {
            self.count("user_stack_cut", 1);
        }
        let truncated = truncated || sound < frames.len();
        let wanted: Vec<Wanted> = frames
            .iter()
            .take(sound)
            .enumerate()
            .map(|(index, address)| self.wanted(pid, *address, index > 0))
            .collect();
        let plain = wanted.iter().map(|wanted| wanted.plain.clone()).collect();
        let stack = Stack {
            id,
            frames: plain,
            truncated,
        };
        let epoch = self.epochs.get(&pid).copied().unwrap_or(0);
        let (mut waits, mut caught_up) = (false, false);
        if let Some(symbols) = &mut self.symbols {
            caught_up = symbols.is_idle();
            waits = symbols.ask(Job {
                pid,
                stack: id,
                epoch,
                frames: wanted,
                ask_caller,
            });
            if !waits {
                complete = false;
                self.count("symbols_late", 1);
            }
        }
        // Asked once more: what is known goes on to be.
        let former = self.stacks.get(pid, id);
        let hides_caller = former.is_some_and(|former| former.hides_caller);
        let stack = Arc::new(stack);
        let again_at = (!complete).then(|| Instant::now() + NAME_AGAIN);
        let known = Known {
            stack,
            waits,
            again_at,
            hides_caller,
        };
        self.stacks.keep(pid, known);
        // While something is late already, waiting would only hold up everything else.
        if waits && caught_up {
            self.await_names(pid, id);
        }
    }

    /// Whether the memory map has all of these addresses, or nothing is to be gained by reading it again.
    fn has_mappings(&mut self, pid: u32, frames: &[u64]) -> bool {
        let unmapped = |space: &Space| frames.iter().any(|address| space.find(*address).is_none());
        if !unmapped(self.space(pid)) {
            return true;
        }
        if !self.read_now(pid) {
            return false;
        }
        // What is not there now will not be.
        let helped = !unmapped(self.space(pid));
        self.space(pid).read_helped(helped);
        true
    }

    fn await_names(&mut self, pid: u32, id: u64) {
        let deadline = Instant::now() + NAME_WAIT;
        while let Some(done) = self.next_done(Some(deadline)) {
            let it_is = (done.pid, done.stack) == (pid, id);
            self.take_names(done);
            if it_is {
                break;
            }
        }
    }

    /// How many frames can be believed. Code without frame pointers leads astray: what is no code
    /// cannot have called anything.
    fn sound_frames(&self, pid: u32, frames: &[u64]) -> usize {
        let space = self.spaces.get(&pid);
        let Some(space) = space.filter(|space| space.snapshot().is_some()) else {
            return frames.len();
        };
        let callers = frames.iter().skip(1);
        let callers = callers.take_while(|caller| returns_to_code(space, **caller));
        frames.len().min(1 + callers.count())
    }

    /// Whether it is known that a call there could return to this address.
    fn is_code(&self, pid: u32, address: u64) -> bool {
        let space = self.spaces.get(&pid);
        space.is_some_and(|space| returns_to_code(space, address))
    }

    fn wanted(&self, pid: u32, address: u64, is_caller: bool) -> Wanted {
        let plain = Frame {
            address,
            ..Frame::default()
        };
        let nameless = Wanted {
            plain,
            before: u64::from(is_caller),
            source: symbols::Place::Nowhere,
        };
        let space = self.spaces.get(&pid);
        let Some((space, snapshot)) = space.and_then(|space| Some((space, space.snapshot()?)))
        else {
            return nameless;
        };
        let Some(mapping) = space.find(address) else {
            return nameless;
        };
        if !matches!(mapping.kind, MappingKind::Exe | MappingKind::File) {
            let jit = Jit {
                pid,
                epoch: self.epochs.get(&pid).copied().unwrap_or(0),
                own_pid: snapshot.own_pid,
                uid: snapshot.uid,
            };
            let source = if mapping.kind == MappingKind::Special {
                symbols::Place::Nowhere
            } else {
                symbols::Place::Jit(jit)
            };
            let module = mapping.path.clone();
            return Wanted {
                plain: Frame {
                    module,
                    ..nameless.plain
                },
                source,
                ..nameless
            };
        }
        let offset = mapping.offset_of(address);
        let source = match mapping.file {
            Some(file) => symbols::Place::Elf {
                file,
                origin: Origin::new(pid, mapping),
                offset,
            },
            None => symbols::Place::Nowhere,
        };
        Wanted {
            plain: Frame {
                module: mapping.path.clone(),
                module_offset: Some(offset),
                ..nameless.plain
            },
            source,
            ..nameless
        }
    }
}

/// Whether a call before this address could return to it.
fn returns_to_code(space: &Space, address: u64) -> bool {
    let mapping = space.find(address.wrapping_sub(1));
    mapping.is_some_and(|mapping| mapping.executable)
}

/// The id of a stack together with the caller that was hidden.
fn with_caller(id: u64, caller: u64) -> u64 {
    (id.rotate_left(29) ^ caller).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::elf_files::{ElfFiles, FileNumber};
    use crate::process::elf_names::{Answer, ElfFrame, Names};
    use crate::process::go::runtime::GoRuntime;
    use crate::process::kernel::KernelSymbols;
    use crate::process::map_reader::{self, MapReader};
    use crate::process::page_bytes;
    use crate::process::symbols::{Done, Symbols};
    use std::fs::File;
    use std::io;

    /// Of every function it is told so whether it hides its caller.
    struct Hiding(Option<bool>);

    impl Names for Hiding {
        fn look_up(&mut self, _: FileNumber, _: &File, _: u64) -> Answer<Vec<ElfFrame>> {
            Ok(Some(Vec::new()))
        }

        fn hides_caller(&mut self, _: FileNumber, _: &File, _: u64) -> Answer<bool> {
            Ok(self.0)
        }

        fn build_id(&mut self, _: FileNumber, _: &File) -> Answer<Vec<u8>> {
            Ok(None)
        }

        fn go_runtime(&mut self, _: &File) -> io::Result<Option<GoRuntime>> {
            Ok(None)
        }
    }

    #[test]
    fn a_stack_about_which_nobody_could_be_asked_is_asked_about_again() {
        let mut labels = hiding(None);
        let pid = std::process::id();
        let done = |not_now| Done {
            pid,
            stack: 7,
            epoch: 0,
            frames: vec![Frame::default()],
            hides_caller: None,
            unreadable: 0,
            unopened: 0,
            not_now,
        };
        let known = Known {
            stack: Arc::new(Stack {
                id: 7,
                ..Stack::default()
            }),
            waits: true,
            again_at: None,
            hides_caller: false,
        };
        labels.stacks.keep(pid, known);
        labels.take_names(done(true));
        let known = labels.stacks.get(pid, 7).expect("kept");
        assert!(known.waits && known.again_at.is_some());
        assert!(labels.take_counts().is_empty(), "nothing is untold yet");
        labels.take_names(done(false));
        let known = labels.stacks.get(pid, 7).expect("kept");
        assert!(!known.waits && known.stack.frames.len() == 1);
        assert_eq!(labels.take_counts().len(), 1, "user_callers_untold");
    }

    fn hiding(told: Option<bool>) -> Labels {
        let kernel = KernelSymbols::parse("ffffffff81000000 T _text\n".to_owned());
        let files = ElfFiles::default();
        let symbols = Symbols::start(Box::new(Hiding(told)), true, files.clone());
        let reader = MapReader::new(files, Box::new(map_reader::read));
        Labels::new(kernel, Some(symbols.expect("started")), reader)
    }

    #[test]
    fn the_word_at_the_stack_pointer_is_a_caller_if_it_is_code() {
        let mut labels = hiding(Some(true));
        let pid = std::process::id();
        let code = |offset: u64| page_bytes as *const () as u64 + offset;
        let frames = [code(1), code(3)];
        let mut stack = |top, ask_caller| {
            let captured = Captured {
                id: 7,
                frames: &frames,
                truncated: false,
                top,
                ask_caller,
            };
            let stack = labels.user_stack(pid, captured);
            let frames = stack.frames.iter().map(|frame| frame.address - code(0));
            (stack.id, frames.collect::<Vec<_>>())
        };
        let on_stack = 0_u64;
        let data = &raw const on_stack as u64;
        for top in [0, data, 1] {
            assert_eq!(stack(top, true), (7, vec![1, 3]), "{top:#x}");
        }
        let (id, whole) = stack(code(2), true);
        assert_eq!(whole, [1, 2, 3]);
        let (other, whole) = stack(code(4), true);
        assert_eq!(whole, [1, 4, 3]);
        assert!(id != 7 && other != 7 && id != other);
        assert_eq!(stack(code(2), true), (id, vec![1, 2, 3]), "once more");
        let lost = labels.take_counts();
        let hidden = lost
            .iter()
            .find(|lost| lost.reason == "user_callers_hidden");
        assert_eq!(hidden.map(|lost| lost.count), Some(3));
    }

    #[test]
    fn who_is_not_asked_for_is_not_told() {
        let mut labels = hiding(Some(true));
        let code = page_bytes as *const () as u64;
        let captured = Captured {
            id: 7,
            frames: &[code + 1],
            truncated: false,
            top: code + 2,
            ask_caller: false,
        };
        let stack = labels.user_stack(std::process::id(), captured);
        assert_eq!((stack.id, stack.frames.len()), (7, 1));
    }

    #[test]
    fn stacks_of_which_it_is_not_told_are_counted_once_each() {
        for (told, counted) in [(None, Some(2)), (Some(false), None)] {
            let mut labels = hiding(told);
            let code = page_bytes as *const () as u64;
            for id in [7, 8, 7, 8, 7] {
                let captured = Captured {
                    id,
                    frames: &[code + id, code],
                    truncated: false,
                    top: code + 2,
                    ask_caller: true,
                };
                let stack = labels.user_stack(std::process::id(), captured);
                assert_eq!((stack.id, stack.frames.len()), (id, 2));
            }
            let lost = labels.take_counts();
            let untold = lost
                .iter()
                .find(|lost| lost.reason == "user_callers_untold");
            assert_eq!(untold.map(|lost| lost.count), counted);
        }
    }
}
