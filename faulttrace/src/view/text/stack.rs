//! Stacks, one frame a line.

use std::sync::Arc;

use super::line::{Line, Page, Paint};
use crate::model::{Frame, Name, Stack};
use crate::view::escape::{escaped, fit_end, width};

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

/// The function and where it is in the source, as both fit. What goes first is the source's directory, then the mark
/// of an inlined call, then the beginning of the function.
pub(super) fn frame(line: Line, frame: &Frame) -> Line {
    let (function, source) = describe(frame);
    let left = line.left();
    let file = source.rsplit('/').next().unwrap_or_default();
    let for_file = match file {
        "" => 0,
        file => (GAP + width(file)).min(left / 2),
    };
    let function = fit_function(&function, left - for_file);
    let rest = left.saturating_sub(width(&function));
    let mark = match frame.inlined && for_file + width(INLINED) <= rest {
        true => INLINED,
        false => "",
    };
    let room = rest.saturating_sub(width(mark) + GAP);
    let source = match source.as_str() {
        "" => source,
        // No room for anything of the directory but that it is cut.
        source if room <= width(file) + 1 && room < width(source) => {
            format!("{:GAP$}{}", "", fit_end(file, room))
        }
        source => format!("{:GAP$}{}", "", fit_end(source, room)),
    };
    line.add(&function).paint(Paint::Dim, &(source + mark))
}

/// Between the function and the source.
const GAP: usize = 2;
const INLINED: &str = " (inlined)";

/// The end of a function's name, which tells most: if need be, without its arguments, which would be at the end.
fn fit_function(name: &str, columns: usize) -> String {
    if width(name) <= columns {
        return name.to_owned();
    }
    fit_end(&without_arguments(name), columns)
}

/// `a::b<…>` for `a::b<c::d<e>>`, `f(…)` for `f(int, char)`.
fn without_arguments(name: &str) -> String {
    let (open, close) = match name.as_bytes().last() {
        Some(b'>') => ('<', '>'),
        Some(b')') => ('(', ')'),
        _ => return name.to_owned(),
    };
    let mut depth = 0_usize;
    for (at, character) in name.char_indices().rev() {
        if character == close {
            depth += 1;
        } else if character == open {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            let kept = &name[..at];
            // All of it in brackets is the name itself.
            return match kept {
                "" => name.to_owned(),
                kept => format!("{kept}{open}…{close}"),
            };
        }
    }
    name.to_owned()
}

/// A source file: the end of its path, which tells most.
fn source(path: &[u8]) -> String {
    fit_end(&escaped(path, MAX_TEXT), MAX_SOURCE)
}

/// What to call the frame, and where it is.
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
            rest = format!("{}:{line}", source(file.as_bytes()));
        }
        (Some(file), None) => rest = source(file.as_bytes()),
        (None, _) => {
            if let Some(offset) = frame.offset {
                name.push_str(&format!("+{offset:#x}"));
            }
            if let Some(module) = module {
                rest = module;
            }
        }
    }
    (name, rest)
}

/// The last part of a path.
pub(in crate::view) fn base_name(path: &Name) -> String {
    let bytes = path.as_bytes();
    let start = bytes.iter().rposition(|byte| *byte == b'/');
    escaped(&bytes[start.map_or(0, |at| at + 1)..], MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(function: &str, inlined: bool, columns: usize) -> String {
        let page = Page {
            color: false,
            width: Some(columns),
        };
        let one = Frame {
            function: Some(Name::from(function)),
            file: Some(Name::from("/work/main/tests/src/demo/database.rs")),
            line: Some(95),
            inlined,
            ..Frame::default()
        };
        let mut out = Vec::new();
        frame(page.line(), &one).end(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(width(text.trim_end()) <= columns, "{text}");
        text.trim_end().to_owned()
    }

    #[test]
    fn the_directory_goes_before_the_function() {
        let name = "faulttrace_tests::demo::database::read_record";
        let of = |columns| shown(name, true, columns);
        assert_eq!(
            of(120),
            format!("{name}  /work/main/tests/src/demo/database.rs:95 (inlined)")
        );
        assert_eq!(of(80), format!("{name}  …rc/demo/database.rs:95 (inlined)"));
        assert_eq!(of(64), format!("{name}  …o/database.rs:95"));
        assert_eq!(of(38), "…database::read_record  database.rs:95");
    }

    #[test]
    fn arguments_go_before_the_name_that_takes_them() {
        let long = "core::ptr::drop_in_place<alloc::vec::Vec<alloc::string::String>>";
        assert_eq!(
            shown(long, false, 50),
            "core::ptr::drop_in_place<…>  …/demo/database.rs:95"
        );
        assert_eq!(without_arguments("f(int (*)(char))"), "f(…)");
        // What has no end, no beginning, or is nothing else, stays.
        for odd in ["<a as b>", ">", "a>", "operator->", "", "…>"] {
            assert_eq!(without_arguments(odd), odd);
        }
    }
}
