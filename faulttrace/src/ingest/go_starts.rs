//! The functions that goroutines run, behind the wrappers that the compiler makes of `go` statements with
//! arguments (`main.main.gowrap1`, since Go 1.21). A wrapper calls one function, but of `go one.Run(x)` with
//! an interface not always the same: what it called is told by the goroutine's own stack alone.

use std::collections::HashMap;

use crate::model::{Goroutine, Name, Stack};

/// Goroutines that are remembered of a process; when there are more, all are learnt anew.
const MAX_GOROUTINES: usize = 4096;
/// How the compiler names wrappers, with a number behind (cmd/compile/internal/ir/func.go, closureName).
const WRAPPER: &[u8] = b".gowrap";

/// What the wrappers of goroutines called, by process and goroutine: for stacks that do not reach so far.
#[derive(Default)]
pub(super) struct Starts(HashMap<u32, HashMap<u64, Name>>);

impl Starts {
    /// Replaces a wrapper as the function that a goroutine runs by what it called, if a stack shows that.
    pub(super) fn unwrap(&mut self, pid: u32, goroutine: &mut Goroutine, stack: Option<&Stack>) {
        let wrapper = goroutine.start.as_ref().filter(|name| is_wrapper(name));
        let (Some(wrapper), Some(id)) = (wrapper, goroutine.id) else {
            return;
        };
        let known = self.0.get(&pid).and_then(|of| of.get(&id));
        let shown = stack.and_then(|stack| called_by(wrapper, stack));
        let Some(called) = shown.or(known).cloned() else {
            return;
        };
        if known != Some(&called) {
            let of_process = self.0.entry(pid).or_default();
            if of_process.len() >= MAX_GOROUTINES {
                of_process.clear();
            }
            of_process.insert(id, called.clone());
        }
        goroutine.start = Some(called);
    }

    /// A process has ended or has another program.
    pub(super) fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }
}

fn is_wrapper(name: &Name) -> bool {
    let name = name.as_bytes();
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.count();
    digits > 0 && name[..name.len() - digits].ends_with(WRAPPER)
}

/// The function that a wrapper calls in this stack.
fn called_by<'s>(wrapper: &Name, stack: &'s Stack) -> Option<&'s Name> {
    let mut functions = stack.frames.iter().map(|frame| frame.function.as_ref());
    let at = functions.rposition(|function| function == Some(wrapper))?;
    let called = stack.frames.get(at.checked_sub(1)?)?.function.as_ref()?;
    // What the runtime does on behalf of the wrapper itself (growing the stack) is not what it is for.
    (!called.as_bytes().starts_with(b"runtime.")).then_some(called)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

    const WRAPPED: &str = "main.main.gowrap12";

    fn stack(functions: &[&str]) -> Stack {
        let frame = |function: &&str| Frame {
            function: Some(Name::from(*function)),
            ..Frame::default()
        };
        Stack {
            frames: functions.iter().map(frame).collect(),
            ..Stack::default()
        }
    }

    fn start(starts: &mut Starts, (pid, id): (u32, u64), start: &str, functions: &[&str]) -> Name {
        let mut goroutine = Goroutine {
            id: Some(id),
            start: Some(Name::from(start)),
            ..Goroutine::default()
        };
        starts.unwrap(pid, &mut goroutine, Some(&stack(functions)));
        goroutine.start.expect("a name")
    }

    #[test]
    fn a_wrapper_stands_for_what_it_calls() {
        let mut starts = Starts::default();
        let mut of = |id, functions: &[&str]| start(&mut starts, id, WRAPPED, functions);
        let work = ["runtime.memmove", "main.work", WRAPPED, "runtime.goexit"];
        // Not known yet.
        assert_eq!(of((1, 7), &["main.work"]), Name::from(WRAPPED));
        let grows = ["runtime.newstack", WRAPPED, "runtime.goexit"];
        assert_eq!(of((1, 7), &grows), Name::from(WRAPPED));
        assert_eq!(of((1, 7), &work), Name::from("main.work"));
        // Another fault of its, whose stack says nothing.
        assert_eq!(of((1, 7), &[]), Name::from("main.work"));
        // Others may have been made to run something else by the same statement.
        assert_eq!(of((1, 8), &[]), Name::from(WRAPPED));
        let run = ["main.(*job).Run", WRAPPED, "runtime.goexit"];
        assert_eq!(of((1, 8), &run), Name::from("main.(*job).Run"));
        assert_eq!(of((1, 7), &[]), Name::from("main.work"));
        assert_eq!(of((2, 7), &[]), Name::from(WRAPPED));
        starts.forget(1);
        assert_eq!(
            start(&mut starts, (1, 7), WRAPPED, &[]),
            Name::from(WRAPPED)
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut starts = Starts::default();
        let work = ["main.work", WRAPPED];
        for id in 0..10_000 {
            assert_eq!(
                start(&mut starts, (1, id), WRAPPED, &work),
                Name::from("main.work")
            );
            assert!(starts.0[&1].len() <= MAX_GOROUTINES);
        }
    }

    #[test]
    fn other_functions_are_what_they_are() {
        let mut starts = Starts::default();
        for name in [
            "main.work",
            "main.gowrap",
            "main.xgowrap1",
            ".gowrap",
            "7",
            "",
        ] {
            let found = start(&mut starts, (1, 7), name, &["main.read", name]);
            assert_eq!(found, Name::from(name));
        }
    }
}
