//! What a kernel stack says: its own frames without the tracer's, and the system call.

use std::sync::Arc;

use crate::model::{Name, Stack};

/// A kernel stack with what was read from it, once per stack.
#[derive(Debug, Clone)]
pub(super) struct KernelStack {
    pub(super) stack: Arc<Stack>,
    /// The system call the thread was in, without the architecture's prefix.
    pub(super) syscall: Option<Name>,
}

/// Prefixes of the functions that enter a system call, per architecture
/// (arch/*/include/asm/syscall_wrapper.h).
const SYSCALL_PREFIXES: [&[u8]; 5] = [
    b"__x64_sys_",
    b"__ia32_compat_sys_",
    b"__ia32_sys_",
    b"__arm64_compat_sys_",
    b"__arm64_sys_",
];

/// Functions through which a tracepoint calls its programs.
const TRACER_PREFIXES: [&[u8]; 4] = [
    b"bpf_trace_run",
    b"__traceiter_",
    b"__bpf_trace_",
    b"bpf_prog_",
];

/// How far inside the stack the tracer's own frames can lie.
const TRACER_FRAMES: usize = 8;

impl KernelStack {
    pub(super) fn new(stack: &Stack) -> Self {
        let own = stack
            .frames
            .iter()
            .take(TRACER_FRAMES)
            .rposition(|frame| starts(frame.function.as_ref(), &TRACER_PREFIXES).is_some());
        let frames = stack
            .frames
            .iter()
            .skip(own.map_or(0, |last| last + 1))
            .cloned()
            .collect();
        let syscall = stack
            .frames
            .iter()
            .find_map(|frame| starts(frame.function.as_ref(), &SYSCALL_PREFIXES))
            .map(Name::from);
        Self {
            stack: Arc::new(Stack {
                frames,
                ..stack.clone()
            }),
            syscall,
        }
    }

    /// Function names, innermost first; unnamed frames are left out.
    pub(super) fn functions(&self) -> Vec<&[u8]> {
        self.stack
            .frames
            .iter()
            .filter_map(|frame| frame.function.as_ref().map(Name::as_bytes))
            .collect()
    }
}

/// What follows one of the prefixes, if the function has one.
fn starts<'a>(function: Option<&'a Name>, prefixes: &[&[u8]]) -> Option<&'a [u8]> {
    let function = function?.as_bytes();
    prefixes
        .iter()
        .find_map(|prefix| function.strip_prefix(*prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

    fn stack(functions: &[&str]) -> Stack {
        let frame = |name: &&str| Frame {
            function: Some(Name::from(*name)),
            ..Frame::default()
        };
        Stack {
            frames: functions.iter().map(frame).collect(),
            ..Stack::default()
        }
    }

    #[test]
    fn the_tracers_frames_go_and_the_system_call_is_named() {
        let read = KernelStack::new(&stack(&[
            "bpf_prog_1_x",
            "bpf_trace_run4",
            "__schedule",
            "filemap_fault",
            "__x64_sys_pread64",
        ]));
        assert_eq!(
            read.functions(),
            [
                b"__schedule".as_slice(),
                b"filemap_fault",
                b"__x64_sys_pread64"
            ]
        );
        assert_eq!(read.syscall, Some(Name::from("pread64")));
        let plain = KernelStack::new(&stack(&["__schedule", "filemap_fault"]));
        assert_eq!(plain.functions().len(), 2);
        assert_eq!(plain.syscall, None);
    }
}
