//! Stacks, one frame a line.

use std::sync::Arc;

use super::line::{Line, Page, Paint};
use crate::model::{Frame, Name, Stack};
use crate::view::escape::{escaped, fit_end, fit_start, width};

/// Longest function name or source path shown, bytes.
pub(in crate::view) const MAX_TEXT: usize = 512;
/// Longest path of a source file, columns; JSON has all of it.
const MAX_SOURCE: usize = 60;
/// How often in a row a stack is not repeated. After that the one it refers to is far away.
const MAX_REFERENCES: u32 = 20;

/// The stack that the entry above has shown.
#[derive(Debug, Default)]
pub(super) struct Above {
    shown: Option<(u32, u64)>,
    references: u32,
}

impl Above {
    /// Shows the user stack, unless the entry above has the same.
    pub(super) fn user_stack(
        &mut self,
        page: Page,
        pid: u32,
        stack: Option<&Arc<Stack>>,
        out: &mut Vec<u8>,
    ) {
        let Some(stack) = stack else {
            self.shown = None;
            page.line()
                .paint(Paint::Dim, "    user stack unknown")
                .end(out);
            return;
        };
        let key = Some((pid, stack.id));
        let long = stack.frames.len() > 2;
        if long && self.shown == key && self.references < MAX_REFERENCES {
            self.references += 1;
            // The innermost function stays, for whoever searches for it, with what is inlined
            // into it.
            let inlined = stack.frames.iter().take_while(|one| one.inlined).count();
            numbered(page, "", &stack.frames, inlined + 1, out);
            page.line()
                .paint(Paint::Dim, "    … same stack as in the entry above")
                .end(out);
            return;
        }
        self.shown = key;
        self.references = 0;
        frames(page, "", stack, out);
    }
}

/// The kernel stack, set apart by its heading and a `k` before each number.
pub(super) fn kernel_stack(page: Page, stack: Option<&Arc<Stack>>, out: &mut Vec<u8>) {
    match stack {
        None => page
            .line()
            .paint(Paint::Dim, "    kernel stack unknown")
            .end(out),
        Some(stack) => {
            page.line()
                .paint(Paint::Dim, "    kernel stack of its longest sleep:")
                .end(out);
            frames(page, "k", stack, out);
        }
    }
}

fn frames(page: Page, prefix: &str, stack: &Stack, out: &mut Vec<u8>) {
    numbered(page, prefix, &stack.frames, stack.frames.len(), out);
    let note = match (stack.truncated, stack.frames.is_empty()) {
        (true, _) => "    … and callers that could not be captured",
        (false, true) => "    stack without frames",
        (false, false) => return,
    };
    page.line().paint(Paint::Dim, note).end(out);
}

/// The first `count` of the frames.
fn numbered(page: Page, prefix: &str, frames: &[Frame], count: usize, out: &mut Vec<u8>) {
    for (at, one) in frames.iter().take(count).enumerate() {
        let line = page.line().add(&format!("    {prefix}#{at:<2} "));
        frame(line, one).end(out);
    }
}

/// The function and where it is in the source, as both fit.
pub(super) fn frame(line: Line, frame: &Frame) -> Line {
    let (function, source) = describe(frame);
    // Neither may take all of the line from the other.
    let left = line.left();
    let for_source = width(&source).min(left / 2);
    let function = fit_start(&function, left.saturating_sub(for_source));
    let source = fit_end(&source, left.saturating_sub(width(&function)));
    line.add(&function).paint(Paint::Dim, &source)
}

/// A source file: the end of its path, which tells most.
fn source(path: &[u8]) -> String {
    fit_end(&escaped(path, MAX_TEXT), MAX_SOURCE)
}

/// What to call the frame, and the rest.
fn describe(frame: &Frame) -> (String, String) {
    let module = frame.module.as_ref().map(base_name);
    let Some(function) = &frame.function else {
        let address = match (module, frame.module_offset) {
            (Some(module), Some(offset)) => format!("{module}+{offset:#x}"),
            (Some(module), None) => format!("{:#x} in {module}", frame.address),
            (None, _) => format!("{:#x}", frame.address),
        };
        return (address, String::new());
    };
    let mut name = escaped(function.as_bytes(), MAX_TEXT);
    let mut rest = String::new();
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => {
            rest = format!("  {}:{line}", source(file.as_bytes()));
        }
        (Some(file), None) => rest = format!("  {}", source(file.as_bytes())),
        (None, _) => {
            if let Some(offset) = frame.offset {
                name.push_str(&format!("+{offset:#x}"));
            }
            if let Some(module) = module {
                rest = format!("  {module}");
            }
        }
    }
    if frame.inlined {
        rest.push_str(" (inlined)");
    }
    (name, rest)
}

/// The last part of a path.
pub(in crate::view) fn base_name(path: &Name) -> String {
    let bytes = path.as_bytes();
    let start = bytes.iter().rposition(|byte| *byte == b'/');
    escaped(&bytes[start.map_or(0, |at| at + 1)..], MAX_TEXT)
}
