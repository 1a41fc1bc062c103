//! Writes files for a look with the tools they are for: `go tool pprof`, a browser, the checkers in
//! tests/python.

use std::path::Path;
use std::sync::Arc;

use super::{T0, export, hostile, many};
use crate::export::Kind;
use crate::model::Record;
use crate::model::summary::samples;

/// Many faults, of which some do not end.
fn some_stuck() -> Vec<Record> {
    let mut records = many(200, 4);
    for (tid, begin_ns) in [(1, Some(T0 + 1_000)), (2, None), (3, Some(T0 + 5_000))] {
        let mut stuck = samples::stuck();
        stuck.facts.tid = tid;
        stuck.facts.begin_ns = begin_ns;
        stuck.facts.began_before_attach = begin_ns.is_none();
        records.insert(20, Record::Stuck(Arc::new(stuck)));
    }
    // The thread of the last goes on, and the end of its fault was lost.
    let mut next = samples::fault();
    next.facts.tid = 3;
    next.end_ns = T0 + 90_000_000;
    next.facts.begin_ns = Some(next.end_ns - next.duration_ns);
    records.push(Record::Fault(Arc::new(next)));
    records
}

#[test]
#[ignore = "writes to /tmp/faulttrace-export, for go tool pprof, Perfetto and eyes"]
fn write_files() {
    let directory = Path::new("/tmp/faulttrace-export");
    std::fs::create_dir_all(directory).unwrap();
    for (name, records) in [
        ("many", many(2000, 3)),
        ("hostile", hostile()),
        ("stuck", some_stuck()),
    ] {
        for kind in Kind::ALL {
            let path = directory.join(format!("{name}.{}", kind.as_str()));
            std::fs::write(path, export(kind, &records)).unwrap();
        }
    }
}
