//! Where the result goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempPath;

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
        writer: BufWriter<File>,
        temporary: TempPath,
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
            Ok(there) if !there.is_file() => {
                bail!(
                    "{} is not a regular file, so it cannot be replaced: choose another name, or write to \
                     standard output without --output",
                    Escaped::path(path)
                );
            }
            Ok(_) if !force => return Err(exists(path)),
            _ => {}
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // With a function of its own, errors do not have the name of a file that nobody asked for.
        let made = tempfile::Builder::new().make_in(directory, |temporary| {
            // Readable by its owner only: what a trace tells of a machine is not everybody's business.
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(temporary)
        });
        let (file, temporary) = made
            .with_context(|| format!("{}: no file can be made there", Escaped::path(path)))?
            .into_parts();
        Ok(Out::File {
            writer: BufWriter::new(file),
            temporary,
            path: path.to_owned(),
            force,
        })
    }

    /// What it is called in errors.
    pub(super) fn name(&self) -> String {
        match self {
            Out::Stdout(_) => "standard output".to_owned(),
            Out::File { path, .. } => Escaped::path(path).to_string(),
        }
    }

    /// All is written. Without this, nothing is left of a file.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let (writer, temporary, path, force) = match self {
            Out::Stdout(mut writer) => {
                return match writer.flush() {
                    Err(error) if !is_broken_pipe(&error) => Err(error).context("standard output"),
                    _ => Ok(()),
                };
            }
            Out::File {
                writer,
                temporary,
                path,
                force,
            } => (writer, temporary, path, force),
        };
        writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .with_context(|| Escaped::path(&path).to_string())?;
        let kept = if force {
            temporary.persist(&path)
        } else {
            temporary.persist_noclobber(&path)
        };
        match kept {
            Ok(()) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, force: bool) -> String {
        let refused = Out::open(Some(path), force, false).err().expect("refused");
        format!("{refused:#}")
    }

    #[test]
    fn errors_name_what_was_asked_for_once() {
        let directory = tempfile::tempdir().expect("a directory");
        for force in [false, true] {
            let odd = refusal(directory.path(), force);
            assert!(odd.contains("not a regular file"), "{odd}");
        }
        let nowhere = directory.path().join("nosuch/a.csv");
        let error = refusal(&nowhere, false);
        let shown = nowhere.display();
        assert_eq!(
            error,
            format!("{shown}: no file can be made there: No such file or directory (os error 2)")
        );
        let path = directory.path().join("a.csv");
        let mut out = Out::open(Some(&path), false, false).expect("opened");
        assert_eq!(out.name(), path.display().to_string());
        out.write_all(b"a,b").expect("written");
        out.finish().expect("finished");
        assert_eq!(fs::read(&path).expect("there"), b"a,b");
        assert!(refusal(&path, false).contains("exists already"));
        let left = fs::read_dir(directory.path()).expect("read").count();
        assert_eq!(left, 1);
    }
}
