//! Kernel stacks as they were before the tracer looked.

use crate::model::{Name, Stack};

/// Functions through which a tracepoint calls its programs.
const TRACER: [&[u8]; 4] = [
    b"bpf_trace_run",
    b"__traceiter_",
    b"__bpf_trace_",
    b"bpf_prog_",
];

/// How far inside the stack the tracer's own frames can lie.
const TRACER_FRAMES: usize = 8;

/// The stack without the frames of the tracer's program, which is its innermost part.
pub(super) fn without_tracer(stack: &Stack) -> Stack {
    let is_tracer = |name: &Name| {
        TRACER
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix))
    };
    let last = stack
        .frames
        .iter()
        .take(TRACER_FRAMES)
        .rposition(|frame| frame.function.as_ref().is_some_and(is_tracer));
    let frames = stack
        .frames
        .iter()
        .skip(last.map_or(0, |last| last + 1))
        .cloned()
        .collect();
    Stack { frames, ..*stack }
}

/// Function names, innermost first; unnamed frames are left out.
pub(super) fn functions(stack: &Stack) -> Vec<&[u8]> {
    stack
        .frames
        .iter()
        .filter_map(|frame| frame.function.as_ref().map(Name::as_bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

    fn stack(names: &[&str]) -> Stack {
        let frame = |name: &&str| Frame {
            function: Some(Name::from(*name)),
            ..Frame::default()
        };
        Stack {
            frames: names.iter().map(frame).collect(),
            ..Stack::default()
        }
    }

    #[test]
    fn only_the_tracers_own_frames_go() {
        let traced = stack(&[
            "bpf_prog_1_x",
            "bpf_trace_run4",
            "__schedule",
            "filemap_fault",
        ]);
        assert_eq!(
            functions(&without_tracer(&traced)),
            [b"__schedule".as_slice(), b"filemap_fault"]
        );
        let plain = stack(&["__schedule", "filemap_fault"]);
        assert_eq!(without_tracer(&plain), plain);
    }
}
