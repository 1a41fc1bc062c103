//! The functions that goroutines run, behind the wrappers that the compiler makes of `go` statements with
//! arguments (`main.main.gowrap1`, since Go 1.21): they call one function and do nothing else.

use std::collections::HashMap;

use crate::model::{Goroutine, Name, Stack};

/// Wrappers that are remembered of a process.
const MAX_WRAPPERS: usize = 1024;
/// How the compiler names them, with a number behind (cmd/compile/internal/ir/func.go, closureName).
const WRAPPER: &[u8] = b".gowrap";

/// What wrappers call, learnt from stacks, by process.
#[derive(Default)]
pub(super) struct Starts(HashMap<u32, HashMap<Name, Name>>);

impl Starts {
    /// Replaces a wrapper as the function that a goroutine runs, once what it calls was seen in a stack.
    pub(super) fn unwrap(&mut self, pid: u32, goroutine: &mut Goroutine, stack: Option<&Stack>) {
        let Some(wrapper) = goroutine.start.as_ref().filter(|name| is_wrapper(name)) else {
            return;
        };
        let known = self.0.get(&pid).and_then(|of| of.get(wrapper)).cloned();
        let Some(called) = known.or_else(|| called_by(wrapper, stack?)) else {
            return;
        };
        let of_process = self.0.entry(pid).or_default();
        if of_process.len() < MAX_WRAPPERS && !of_process.contains_key(wrapper) {
            of_process.insert(wrapper.clone(), called.clone());
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
fn called_by(wrapper: &Name, stack: &Stack) -> Option<Name> {
    let mut functions = stack.frames.iter().map(|frame| frame.function.as_ref());
    let at = functions.rposition(|function| function == Some(wrapper))?;
    let called = stack.frames.get(at.checked_sub(1)?)?.function.as_ref()?;
    // What the runtime does on behalf of the wrapper itself (growing the stack) is not what it is for.
    (!called.as_bytes().starts_with(b"runtime.")).then(|| called.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

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

    fn start(starts: &mut Starts, pid: u32, start: &str, functions: &[&str]) -> String {
        let mut goroutine = Goroutine {
            start: Some(Name::from(start)),
            ..Goroutine::default()
        };
        starts.unwrap(pid, &mut goroutine, Some(&stack(functions)));
        let name = goroutine.start.expect("a name");
        String::from_utf8_lossy(name.as_bytes()).into_owned()
    }

    #[test]
    fn a_wrapper_stands_for_what_it_calls() {
        let mut starts = Starts::default();
        let wrapper = "main.main.gowrap12";
        let outer = [
            "runtime.memmove",
            "main.read",
            "main.work",
            wrapper,
            "runtime.goexit",
        ];
        // Not known yet.
        assert_eq!(start(&mut starts, 1, wrapper, &["main.read"]), wrapper);
        let grows = ["runtime.newstack", wrapper, "runtime.goexit"];
        assert_eq!(start(&mut starts, 1, wrapper, &grows), wrapper);
        assert_eq!(start(&mut starts, 1, wrapper, &outer), "main.work");
        // Another fault of its, whose stack says nothing; and another process.
        assert_eq!(start(&mut starts, 1, wrapper, &[]), "main.work");
        assert_eq!(start(&mut starts, 2, wrapper, &[]), wrapper);
        starts.forget(1);
        assert_eq!(start(&mut starts, 1, wrapper, &[]), wrapper);
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
            assert_eq!(start(&mut starts, 1, name, &["main.read", name]), name);
        }
    }
}
