//! One line of output: colour, and the width it has to fit.

use crate::view::escape::{fit_end, fit_start, width};

/// What stands out. Few on purpose.
#[derive(Debug, Clone, Copy)]
pub(in crate::view) enum Paint {
    /// What to read first.
    Bold,
    /// What needs action.
    Alarm,
    /// What is there to look up.
    Dim,
}

impl Paint {
    fn sgr(self) -> &'static str {
        match self {
            Paint::Bold => "\x1b[1m",
            Paint::Alarm => "\x1b[1;31m",
            Paint::Dim => "\x1b[2m",
        }
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy)]
pub(in crate::view) struct Page {
    pub(in crate::view) color: bool,
    pub(in crate::view) width: Option<usize>,
}

/// Narrower terminals get lines of this width: less than that tells nothing.
const MIN_WIDTH: usize = 30;

impl Page {
    /// An empty line.
    pub(in crate::view) fn line(self) -> Line {
        Line {
            text: String::new(),
            left: self.width.map(|width| width.max(MIN_WIDTH)),
            color: self.color,
        }
    }

    /// A line that is one text.
    pub(in crate::view) fn say(self, text: &str, out: &mut Vec<u8>) {
        self.line().add(text).end(out);
    }

    /// Text of ours after what begins its line; what does not fit goes on below it.
    pub(in crate::view) fn hang(self, begin: &str, text: &str, out: &mut Vec<u8>) {
        let column = width(begin);
        let mut lines = Vec::new();
        self.wrap(column, text, &mut lines);
        out.extend_from_slice(begin.as_bytes());
        out.extend_from_slice(lines.get(column..).unwrap_or_default());
    }

    /// Text of ours that may take several lines: broken between words rather than cut.
    pub(in crate::view) fn wrap(self, indent: usize, text: &str, out: &mut Vec<u8>) {
        let room = self.width.map_or(usize::MAX, |columns| {
            columns.max(MIN_WIDTH).saturating_sub(indent)
        });
        let mut line = String::new();
        let mut pad = indent;
        for word in text.split(' ') {
            let used = width(&line);
            // Continuations stand two columns further in.
            let taken = used + 1 + width(word) + (pad - indent);
            if used > 0 && taken > room {
                self.say(&format!("{:pad$}{line}", ""), out);
                line.clear();
                pad = indent + 2;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.say(&format!("{:pad$}{line}", ""), out);
    }
}

/// A line being written. What does not fit into the width is cut.
#[derive(Debug)]
pub(in crate::view) struct Line {
    text: String,
    left: Option<usize>,
    color: bool,
}

impl Line {
    /// Columns that are left; without a limit, many.
    pub(in crate::view) fn left(&self) -> usize {
        self.left.unwrap_or(usize::MAX)
    }

    /// Appends text, cut at its end if need be.
    pub(in crate::view) fn add(mut self, text: &str) -> Self {
        match self.left {
            None => self.text.push_str(text),
            Some(left) => {
                let fitted = fit_start(text, left);
                self.left = Some(left.saturating_sub(width(&fitted)));
                self.text.push_str(&fitted);
            }
        }
        self
    }

    /// Appends text that stands out.
    pub(in crate::view) fn paint(mut self, paint: Paint, text: &str) -> Self {
        if !self.color {
            return self.add(text);
        }
        self.text.push_str(paint.sgr());
        let mut line = self.add(text);
        line.text.push_str("\x1b[0m");
        line
    }

    /// Appends a path and what belongs to it; of the path the end is kept.
    pub(in crate::view) fn path(self, path: &str, suffix: &str) -> Self {
        let room = self.left().saturating_sub(width(suffix));
        self.add(&fit_end(path, room)).add(suffix)
    }

    /// Appends spaces until `text` has taken `columns`.
    pub(in crate::view) fn pad(self, text: &str, columns: usize) -> Self {
        let spaces = columns.saturating_sub(width(text));
        self.add(text).add(&" ".repeat(spaces))
    }

    /// Writes the line out.
    pub(in crate::view) fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.trim_end_matches(' ').as_bytes());
        out.push(b'\n');
    }
}
