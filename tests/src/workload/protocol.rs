//! One line per step: `ready {json}`, `go`, `done {json}`, then the end of the input.

use std::io::{self, BufRead, Write};

use serde::Serialize;

use crate::mem::Mapping;
use crate::truth::{Done, Ready};

/// Prints one line, `word {json}`.
pub fn say(word: &str, value: &impl Serialize) {
    let json = serde_json::to_string(value).expect("the workload's own types become JSON");
    let mut out = io::stdout().lock();
    writeln!(out, "{word} {json}")
        .and_then(|()| out.flush())
        .expect("the harness listens");
}

/// Says `ready` and waits for `go`.
pub fn ready_then_go(ready: &Ready) {
    say("ready", ready);
    wait_line("go");
}

/// Says `done` and waits to be told to exit.
pub fn done_then_exit(done: &Done) {
    say("done", done);
    let mut rest = String::new();
    io::stdin()
        .lock()
        .read_line(&mut rest)
        .expect("read from the harness");
}

/// Waits for a line of the harness.
pub fn wait_line(expected: &str) {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("read from the harness");
    assert_eq!(line.trim_end(), expected, "what the harness says");
}

/// As [`ready`], with where the memory is whose pages will be touched.
pub fn ready_to_touch(tids: Vec<u32>, memory: &Mapping) -> Ready {
    let mut ready = ready(tids);
    ready
        .places
        .insert("memory".to_owned(), memory.at(0) as u64);
    ready
}

/// A `Ready` of this process.
pub fn ready(tids: Vec<u32>) -> Ready {
    Ready {
        pid: std::process::id(),
        tids,
        ..Ready::default()
    }
}
