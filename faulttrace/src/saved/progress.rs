//! A progress bar on standard error, for what takes longer than a second on a terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many steps may pass before the clock is looked at.
const STRIDE: u64 = 16_384;

/// How far it is.
pub(super) struct Progress {
    total: u64,
    done: u64,
    what: &'static str,
    begun: Instant,
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of so many steps.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self {
            total,
            done: 0,
            what,
            begun: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            bar: None,
        }
    }

    /// One more.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.terminal && self.done.is_multiple_of(STRIDE) {
            self.show();
        }
    }

    fn show(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.begun.elapsed() > PATIENCE {
            let target = ProgressDrawTarget::stderr_with_hz(5);
            let bar = ProgressBar::with_draw_target(Some(self.total), target);
            // The template is ours; one that did not parse would leave the plain style.
            if let Ok(style) = ProgressStyle::with_template(
                "{msg} {wide_bar} {human_pos} of {human_len} faults, {eta} left",
            ) {
                bar.set_style(style);
            }
            bar.set_message(self.what);
            bar.set_position(self.done);
            self.bar = Some(bar);
        }
    }

    /// Takes it off the screen.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
