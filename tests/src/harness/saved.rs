//! Saved traces from the outside: what the tool's own commands, SQLite's and others' say of them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Line, must, run};
use super::tracer::{Ended, binary, run_to_end};
use super::{LONG, PREFIX, root};

/// A trace in a directory of its own.
#[derive(Debug)]
pub struct SavedTrace {
    directory: TempDir,
}

impl Default for SavedTrace {
    fn default() -> Self {
        Self::new()
    }
}

impl SavedTrace {
    /// Where a trace can be saved.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}saved-"))
            .tempdir_in(root())
            .expect("directory");
        Self { directory }
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("saved.faulttrace")
    }

    /// Panics unless a replay prints these lines.
    pub(super) fn check_replay(&self, lines: &[Line]) {
        let replayed = replay_json(&self.path(), &[]);
        let mut replayed = replayed.lines();
        for (number, line) in lines.iter().enumerate() {
            let found = replayed.next().unwrap_or("nothing");
            assert!(
                found == line.text,
                "line {} was:\n{}\nin the replay it is:\n{found}",
                number + 1,
                line.text
            );
        }
        assert_eq!(replayed.next(), None, "the replay has more");
    }
}

/// What `faulttrace replay --format json` prints of a trace. Panics if it fails.
pub fn replay_json(path: &Path, options: &[&str]) -> String {
    let mut arguments = vec![OsStr::new("replay"), OsStr::new("--format=json")];
    arguments.extend(options.iter().map(OsStr::new));
    arguments.push(path.as_os_str());
    succeed(arguments)
}

/// Runs the tool on saved traces; its output. Panics unless it ends with 0.
pub fn succeed<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new(binary());
    command.args(arguments);
    let output = run(&mut command, LONG);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `faulttrace report --json` of a trace.
pub fn report(path: &Path, options: &[&str]) -> Value {
    let mut arguments = vec![OsStr::new("report"), OsStr::new("--json")];
    arguments.extend(options.iter().map(OsStr::new));
    arguments.push(path.as_os_str());
    serde_json::from_str(&succeed(arguments)).expect("one JSON object")
}

/// The records of JSON Lines.
pub fn records(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

/// Runs the tool, which may fail.
pub fn attempt<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    run_to_end(arguments)
}

/// What SQLite's own shell answers.
pub fn sqlite(path: &Path, sql: &str) -> String {
    must("sqlite3", [path.as_os_str(), OsStr::new(sql)])
}

/// Panics unless SQLite finds the file in order.
pub fn check_integrity(path: &Path) {
    assert_eq!(
        sqlite(path, "PRAGMA integrity_check"),
        "ok",
        "{}",
        path.display()
    );
}
