//! Saved traces from the outside: what the tool's own commands, SQLite's and others' say of them.

use std::collections::BTreeMap;
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

    /// Panics unless a replay prints these lines. Who does not read them in time is not shown all
    /// faults, and told so: then the replay has those as well.
    pub(super) fn check_replay(&self, lines: &[Line]) {
        let replayed = replay_json(&self.path(), &[]);
        let live: Vec<&str> = lines.iter().map(|line| &*line.text).collect();
        let replayed: Vec<&str> = replayed.lines().collect();
        let not_shown: u64 = live.iter().filter_map(|line| not_shown(line)).sum();
        if not_shown > 0 {
            let mut shown = live;
            shown.retain(|line| self::not_shown(line).is_none());
            let missing = missing(&shown, &replayed);
            assert_eq!(missing, not_shown, "faults that were not shown");
            return;
        }
        for (number, (line, found)) in live.iter().zip(&replayed).enumerate() {
            let number = number + 1;
            assert_eq!(found, line, "line {number}: in the replay, and live");
        }
        assert_eq!(replayed.len(), live.len(), "lines of the replay, and live");
    }
}

/// Of a line that tells of faults that were not shown: how many.
fn not_shown(line: &str) -> Option<u64> {
    let lost = line.starts_with(r#"{"type":"lost""#).then_some(line)?;
    let lost: Value = serde_json::from_str(lost).expect("a record");
    (lost["reason"] == "output_overrun").then(|| lost["count"].as_u64().expect("a number"))
}

/// How many faults a replay has that these lines have not. Panics unless all else is the same, each
/// type of record in its order: a stall is told with the next line that is shown.
fn missing(live: &[&str], replayed: &[&str]) -> u64 {
    let by_type = |lines: &[&str]| {
        let mut types: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for mut record in records(&lines.join("\n")) {
            // What was not shown is counted as lost here alone.
            for key in ["lost", "lost_by_class"] {
                record.as_object_mut().expect("a record").remove(key);
            }
            let name = record["type"].as_str().expect("a name").to_owned();
            types.entry(name).or_default().push(record);
        }
        types
    };
    let live = by_type(live);
    let mut missing = 0;
    for (name, records) in by_type(replayed) {
        let mut shown = live.get(&name).into_iter().flatten().peekable();
        let rest = records
            .iter()
            .filter(|record| shown.next_if_eq(record).is_none());
        match (name.as_str(), rest.count() as u64) {
            ("fault", count) => missing = count,
            ("stuck", _) => {}
            (_, count) => assert_eq!(count, 0, "{name}: of the replay, and not live"),
        }
        assert_eq!(shown.next(), None, "{name}: live, and not in the replay");
    }
    missing
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

/// What SQLite's own shell answers, which waits while somebody writes.
pub fn sqlite(path: &Path, sql: &str) -> String {
    let wait = ["-cmd", ".timeout 10000"].map(OsStr::new);
    must(
        "sqlite3",
        wait.into_iter().chain([path.as_os_str(), OsStr::new(sql)]),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: [&str; 3] = [
        r#"{"type":"fault","n":1}"#,
        r#"{"type":"fault","n":2}"#,
        r#"{"type":"fault","n":3}"#,
    ];
    const STALL: &str = r#"{"type":"stall","n":1}"#;
    const LOST: &str = r#"{"type":"lost","class":"lost","reason":"output_overrun","count":1}"#;

    #[test]
    fn only_faults_may_be_missing_and_they_are_counted() {
        let replayed = [FAULT[0], FAULT[1], STALL, FAULT[2]];
        assert_eq!(missing(&[FAULT[0], FAULT[2], STALL], &replayed), 1);
        let fails = |live: &[&str]| std::panic::catch_unwind(|| missing(live, &replayed)).is_err();
        assert!(fails(&[FAULT[0], FAULT[2]]), "a stall is missing");
        assert!(fails(&[FAULT[2], FAULT[0], STALL]), "another order");
        assert_eq!((not_shown(LOST), not_shown(STALL)), (Some(1), None));
    }
}
