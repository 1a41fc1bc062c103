//! Frames, stacks and places as text. All of it is the target's to choose, so all is escaped and
//! bounded, and what stands in brackets is ours alone: their names cannot begin with one.

use std::fmt::Write as _;

use crate::model::{Frame, Name, Stack};
use crate::view::escape::escaped;

/// Longest name of a function, bytes: C++ and Rust have long ones.
const MAX_FUNCTION: usize = 1024;
/// Longest name of a thread, bytes; the kernel's own limit is 15.
const MAX_THREAD: usize = 64;
/// Longest path, bytes.
pub(super) const MAX_PATH: usize = 1024;
/// Frames of one stack that are shown.
pub(super) const MAX_FRAMES: usize = 512;
/// Longest text of one stack, bytes.
const MAX_STACK: usize = 32 << 10;

/// Stands where a stack would be for a fault that has none.
pub(super) const NO_STACK: &str = "[no user stack]";
/// Stands where the outermost frames are missing.
pub(super) const CUT: &str = "[stack cut]";

/// A name that the target chose.
fn theirs(bytes: &[u8], max_bytes: usize) -> String {
    let text = escaped(bytes, max_bytes);
    match text.strip_prefix('[') {
        Some(rest) => format!("\\x5b{rest}"),
        None => text,
    }
}

/// A thread's name.
pub(super) fn thread(name: &Name) -> String {
    if name.as_bytes().is_empty() {
        return "[no name]".to_owned();
    }
    theirs(name.as_bytes(), MAX_THREAD)
}

/// The function that a goroutine runs, or was made by.
pub(super) fn go_function(name: &Name) -> String {
    theirs(name.as_bytes(), MAX_FUNCTION)
}

/// A frame's function, if it is known.
pub(super) fn known_function(frame: &Frame) -> Option<String> {
    let name = frame.function.as_ref()?.as_bytes();
    (!name.is_empty()).then(|| theirs(name, MAX_FUNCTION))
}

/// A frame's function; else where it is in its module; else its address.
pub(super) fn function(frame: &Frame) -> String {
    if let Some(name) = known_function(frame) {
        return name;
    }
    match (&frame.module, frame.module_offset) {
        (Some(module), Some(offset)) => {
            let path = module.as_bytes();
            let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            format!("{}+{offset:#x}", theirs(base, MAX_PATH))
        }
        _ => format!("{:#x}", frame.address),
    }
}

/// The functions of a stack, innermost first, joined by ` < `; with `source` also where they are.
pub(super) fn stack(stack: &Stack, source: bool) -> String {
    let mut text = String::new();
    for (index, frame) in stack.frames.iter().enumerate() {
        if index > 0 {
            text.push_str(" < ");
        }
        if index >= MAX_FRAMES || text.len() >= MAX_STACK {
            // Writing to a string cannot fail.
            let _ = write!(text, "[{} more frames]", stack.frames.len() - index);
            break;
        }
        text.push_str(&function(frame));
        if source {
            push_source(frame, &mut text);
        }
    }
    if stack.truncated {
        text.push_str(if text.is_empty() {
            CUT
        } else {
            " < [stack cut]"
        });
    }
    text
}

fn push_source(frame: &Frame, text: &mut String) {
    if let Some(file) = &frame.file {
        text.push(' ');
        text.push_str(&escaped(file.as_bytes(), MAX_PATH));
        if let Some(line) = frame.line {
            let _ = write!(text, ":{line}");
        }
    }
    if frame.inlined {
        text.push_str(" (inlined)");
    }
}

/// The name of a file or module.
pub(super) fn path(name: &Name) -> String {
    escaped(name.as_bytes(), MAX_PATH)
}
