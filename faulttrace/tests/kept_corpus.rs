//! What fuzzing has found worth keeping, read again by every `cargo test`; and a real trace with a few
//! bytes changed, many times. Nothing may panic, hang, or reach a terminal unescaped.

#[path = "../../fuzz/src/consume.rs"]
#[expect(
    unreachable_pub,
    reason = "it belongs to another crate, where it is reached"
)]
mod consume;
#[path = "../../fuzz/src/parsers.rs"]
#[expect(
    unreachable_pub,
    reason = "it belongs to another crate, where it is reached"
)]
mod parsers;
#[path = "../../fuzz/src/ring.rs"]
#[expect(
    unreachable_pub,
    reason = "it belongs to another crate, where it is reached"
)]
mod ring;

use std::path::{Path, PathBuf};

use consume::consume;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

#[test]
fn what_targets_write_is_survived() {
    for (target, run) in [
        ("maps", parsers::maps as fn(&[u8]) -> usize),
        ("perf_map", parsers::perf_map),
        ("btf", parsers::btf),
        ("build_id", parsers::build_id),
        ("go", parsers::go),
        ("unwind", parsers::unwind),
        ("ring", ring::ring),
    ] {
        let files = std::fs::read_dir(corpus(target)).expect("the corpus is there");
        let understood: Vec<usize> = files
            .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("readable"))
            .map(|bytes| run(&bytes))
            .collect();
        assert!(understood.len() > 1, "{target}: {} files", understood.len());
        assert!(
            understood.iter().any(|count| *count > 0),
            "{target}: nothing in its corpus is understood"
        );
    }
}

#[test]
fn the_corpus_is_survived() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut records = Vec::new();
    for entry in std::fs::read_dir(corpus("trace")).expect("the corpus is there") {
        let entry = entry.expect("an entry");
        // A copy, because reading may repair.
        let copy = directory.path().join(entry.file_name());
        std::fs::copy(entry.path(), &copy).expect("copied");
        records.push(consume(&copy));
    }
    assert!(records.len() > 10, "{} files", records.len());
    assert!(
        records.iter().any(|count| *count > 10),
        "one of them is a whole trace"
    );
}

#[test]
fn changed_bytes_are_survived() {
    let seed = std::fs::read(corpus("trace").join("seed")).expect("the seed");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("changed");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 1).unwrap_or(0) % below
    };
    let mut readable = 0;
    for _ in 0..500 {
        let mut bytes = seed.clone();
        for _ in 0..1 + next(4) {
            let at = next(bytes.len());
            bytes[at] = u8::try_from(next(256)).expect("a byte");
        }
        std::fs::write(&path, &bytes).expect("written");
        readable += usize::from(consume(&path) > 0);
    }
    assert!(
        readable > 100,
        "most changes leave a trace that can be read: {readable}"
    );
}
