//! Which view standard output gets: what it is decides about colour and width.

use std::io::IsTerminal as _;

use super::{Json, Text, TextOptions, View};
use crate::cli::{Color, Format};

/// What is to be shown, as the user asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// For whom.
    pub format: Format,
    /// When to use colour.
    pub color: Color,
    /// With kernel stacks.
    pub kernel_stacks: bool,
    /// Several processes are or may be traced.
    pub several: bool,
}

/// A view for standard output.
pub fn on_stdout(show: Show) -> Box<dyn View> {
    match show.format {
        Format::Json => Box::new(Json::new()),
        Format::Text => Box::new(Text::new(TextOptions {
            color: wants_color(show.color),
            width: terminal_width(),
            kernel_stacks: show.kernel_stacks,
            multi_process: show.several,
        })),
    }
}

/// Whether standard output is to have colour.
pub fn wants_color(color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stdout().is_terminal(),
    }
}

/// Columns of the terminal that standard output is; `None` if it is none.
pub fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (terminal_size::Width(columns), _) = terminal_size::terminal_size()?;
    Some(usize::from(columns))
}
