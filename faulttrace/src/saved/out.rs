//! Where the result goes.

use std::fs;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

use crate::view::escape::Escaped;

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
pub(super) enum Out {
    Stdout(BufWriter<io::StdoutLock<'static>>),
    /// A file beside the one that is wanted, which takes its place when it is whole.
    File {
        writer: BufWriter<NamedTempFile>,
        path: PathBuf,
        force: bool,
    },
}

impl Out {
    /// Standard output, or a file. What is there is touched only at the end, and only by force.
    pub(super) fn open(path: Option<&Path>, force: bool, binary: bool) -> anyhow::Result<Self> {
        let Some(path) = path else {
            let stdout = io::stdout();
            if binary && stdout.is_terminal() {
                bail!("this format is not for a terminal: write it to a file with --output OUT");
            }
            return Ok(Out::Stdout(BufWriter::new(stdout.lock())));
        };
        match fs::symlink_metadata(path) {
            Ok(_) if !force => return Err(exists(path)),
            Ok(there) if !there.is_file() => {
                bail!(
                    "{} is not a regular file, so it cannot be replaced",
                    Escaped::path(path)
                );
            }
            _ => {}
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Readable by its owner only: what a trace tells of a machine is not everybody's business.
        let file = NamedTempFile::new_in(directory)
            .with_context(|| Escaped::path(directory).to_string())?;
        Ok(Out::File {
            writer: BufWriter::new(file),
            path: path.to_owned(),
            force,
        })
    }

    /// All is written. Without this, nothing is left of a file.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let (writer, path, force) = match self {
            Out::Stdout(mut writer) => {
                return match writer.flush() {
                    Err(error) if !is_broken_pipe(&error) => Err(error).context("standard output"),
                    _ => Ok(()),
                };
            }
            Out::File {
                writer,
                path,
                force,
            } => (writer, path, force),
        };
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .with_context(|| Escaped::path(&path).to_string())?;
        let kept = if force {
            file.persist(&path)
        } else {
            file.persist_noclobber(&path)
        };
        match kept {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
            Err(error) => Err(error.error).with_context(|| Escaped::path(&path).to_string()),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::Stdout(writer) => writer.write(bytes),
            Out::File { writer, .. } => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::Stdout(writer) => writer.flush(),
            Out::File { writer, .. } => writer.flush(),
        }
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} exists already: choose another name, or replace it with --force",
        Escaped::path(path)
    )
}
