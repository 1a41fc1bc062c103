//! Where the result goes.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Owner only: what a trace tells of a machine is not everybody's business.
const MODE: u32 = 0o600;

/// Whether the reader of standard output has gone away, which is its right.
pub(super) fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Writes everything to standard output at once.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if !is_broken_pipe(&error) => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// What an export is written to.
pub(super) fn open(
    path: Option<&Path>,
    force: bool,
    binary: bool,
) -> anyhow::Result<Box<dyn Write>> {
    let Some(path) = path else {
        let stdout = io::stdout();
        if binary && stdout.is_terminal() {
            bail!("this format is not for a terminal: write it to a file with --output OUT");
        }
        return Ok(Box::new(BufWriter::new(stdout.lock())));
    };
    let mut options = OpenOptions::new();
    options
        .write(true)
        .mode(MODE)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(path) {
        Ok(file) => Ok(Box::new(BufWriter::new(file))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "{} exists already: choose another name, or replace it with --force",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}
