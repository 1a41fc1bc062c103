//! The process that reads programs and libraries for the tracer, and the tracer's side of it.
//!
//! The process greets when it is there. Then one question at a time: a message with a number for the file,
//! what is asked and an offset, with the file's descriptor when it is asked about for the first time; the
//! answer is JSON. A process that keeps many files is replaced by another. If the process dies or does not
//! answer, another process is started, and the file that was asked about is read without its debug information
//! from then on, or not at all if that was no better. If no process can be started, no file is to blame, and it
//! is tried again a while later.

mod process;
mod serve;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use self::process::Process;
pub use self::serve::serve;
use super::build_id;
use super::elf_files::FileNumber;
use super::elf_names::{Answer, ElfFrame, Names, NotNow};
use super::go::runtime::GoRuntime;

/// The only argument of this program when it is to be the helper. Not for users.
pub const ARGUMENT: &str = "__names-helper";

/// How long none is started after one could not be.
const START_PAUSE: Duration = Duration::from_secs(10);
/// How many files are remembered that cannot be read.
const MAX_BLAMED: usize = 10_000;
/// Longest answer; the socket's buffer takes more.
const MAX_ANSWER: usize = 128 * 1024;
/// A file's number, what is asked about it, and an offset.
const QUESTION_BYTES: usize = 16;

/// Whether a file has a Go runtime, or why that could not be found out.
type GoAnswer = Result<Option<GoRuntime>, String>;

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// Names at the offset, by the symbol table alone.
    Table,
    /// Names at the offset, by debug information too.
    Debug,
    /// Whether frame pointers hide who called the function at the offset.
    Caller,
    /// The build id, whatever the offset.
    BuildId,
    /// The Go runtime, whatever the offset. The file comes with each question, and is not kept.
    Go,
}

impl About {
    fn word(self) -> u32 {
        match self {
            About::Table => 0,
            About::Debug => 1,
            About::BuildId => 2,
            About::Go => 3,
            About::Caller => 4,
        }
    }

    fn of_word(word: u32) -> Option<Self> {
        let all = [
            About::Table,
            About::Debug,
            About::BuildId,
            About::Go,
            About::Caller,
        ];
        all.into_iter().find(|about| about.word() == word)
    }
}

/// The tracer's side.
#[derive(Default)]
pub(super) struct Helper {
    process: Option<Process>,
    /// When one could not be started.
    not_started: Option<Instant>,
    /// Files whose debug information cannot be read.
    without_debug: HashSet<FileNumber>,
    /// Files whose tables for unwinding cannot be read.
    without_callers: HashSet<FileNumber>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// Nobody was asked.
    #[error("the process that reads names cannot be started: {0}")]
    NotStarted(io::Error),
    /// Nor is it tried: it failed a short while ago, which was told.
    #[error("the process that reads names could not be started a short while ago")]
    Paused,
    /// Who was asked is dead or does not answer: the file may be why.
    #[error(transparent)]
    Silent(#[from] io::Error),
}

impl Unanswered {
    /// Says what is left out and why. An error if the file is not to blame.
    fn blame(&self, left_out: &str) -> Result<(), NotNow> {
        match self {
            Unanswered::NotStarted(_) => log::warn!("names are left out for now: {self}"),
            Unanswered::Paused => {}
            Unanswered::Silent(_) => {
                log::warn!("{left_out}: {self}");
                return Ok(());
            }
        }
        Err(NotNow)
    }
}

impl Names for Helper {
    fn look_up(&mut self, number: FileNumber, file: &File, offset: u64) -> Answer<Vec<ElfFrame>> {
        if !self.without_debug.contains(&number) {
            match self.ask(Some(number), file, About::Debug, offset) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    error.blame("debug information of a file is left out")?;
                    note(&mut self.without_debug, number);
                }
            }
        }
        self.ask(Some(number), file, About::Table, offset)
            .or_else(|error| error.blame("symbols of a file are left out").map(|()| None))
    }

    fn hides_caller(&mut self, number: FileNumber, file: &File, offset: u64) -> Answer<bool> {
        if self.without_callers.contains(&number) {
            return Ok(None);
        }
        let answer = self.ask(Some(number), file, About::Caller, offset);
        answer.or_else(|error| {
            error.blame("callers that frame pointers hide in a file are left out")?;
            note(&mut self.without_callers, number);
            Ok(None)
        })
    }

    fn build_id(&mut self, number: FileNumber, file: &File) -> Answer<Vec<u8>> {
        let found: Option<Vec<u8>> = match self.ask(Some(number), file, About::BuildId, 0) {
            Ok(found) => found,
            Err(error) => {
                error.blame("the build id of a file is left out")?;
                None
            }
        };
        // The helper may be what a hostile file made of it.
        Ok(found.filter(|found| found.len() <= build_id::MAX_BYTES))
    }

    fn go_runtime(&mut self, file: &File) -> io::Result<Option<GoRuntime>> {
        let read = self.ask(None, file, About::Go, 0);
        let read: Option<GoAnswer> = read.map_err(io::Error::other)?;
        let read = read.ok_or(io::ErrorKind::InvalidData)?;
        match read.map_err(io::Error::other)?.map(GoRuntime::believed) {
            Some(None) => Err(io::ErrorKind::InvalidData.into()),
            found => Ok(found.flatten()),
        }
    }
}

impl Helper {
    /// `number`: none for a file that the helper is not to keep.
    fn ask<T: DeserializeOwned>(
        &mut self,
        number: Option<FileNumber>,
        file: &File,
        about: About,
        offset: u64,
    ) -> Result<Option<T>, Unanswered> {
        if let (Some(process), Some(number)) = (&self.process, number)
            && process.is_full_for(number)
        {
            // Whatever it has read of a file is kept as long as it lives.
            self.process = None;
        }
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(start(&mut self.not_started)?),
        };
        let answer = process.ask(number, file, about, offset);
        if answer.is_err() {
            self.process = None;
        }
        Ok(answer?)
    }
}

/// Notes a file that is to blame; if there are too many, others are forgiven.
fn note(files: &mut HashSet<FileNumber>, number: FileNumber) {
    if files.len() >= MAX_BLAMED {
        files.clear();
    }
    files.insert(number);
}

/// Starts the process, unless one could not be started a short while ago.
fn start(not_started: &mut Option<Instant>) -> Result<Process, Unanswered> {
    if not_started.is_some_and(|when| when.elapsed() < START_PAUSE) {
        return Err(Unanswered::Paused);
    }
    let started = Process::start();
    *not_started = started.is_err().then(Instant::now);
    started.map_err(Unanswered::NotStarted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_ends_at_once_costs_no_file() {
        // The test program is no helper: given the argument it runs no test and ends.
        let mut helper = Helper::default();
        let file = File::open("/proc/self/exe").expect("our own program");
        let number = FileNumber(1);
        assert_eq!(helper.look_up(number, &file, 0), Err(NotNow));
        assert!(helper.not_started.is_some() && helper.without_debug.is_empty());
        assert!(helper.go_runtime(&file).is_err(), "nobody has read it");
        assert!(helper.process.is_none());
    }

    #[test]
    fn a_process_that_cannot_be_started_costs_no_file() {
        let mut helper = Helper {
            not_started: Some(Instant::now()),
            ..Helper::default()
        };
        let file = File::open("/proc/self/exe").expect("our own program");
        let number = FileNumber(1);
        assert_eq!(helper.look_up(number, &file, 0), Err(NotNow));
        assert_eq!(helper.hides_caller(number, &file, 0), Err(NotNow));
        assert_eq!(helper.build_id(number, &file), Err(NotNow));
        assert!(helper.without_debug.is_empty() && helper.without_callers.is_empty());
    }
}
