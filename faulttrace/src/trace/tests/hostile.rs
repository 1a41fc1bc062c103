//! Traces that somebody else has written, or changed.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::{directory, json, read, records, write};
use crate::model::summary::samples;
use crate::model::{Frame, Name, Record, Stack};
use crate::trace::{Error, Item, Order, Trace};

/// A trace that somebody has changed with SQLite's own means.
fn changed(directory: &Path, sql: &str) -> PathBuf {
    let path = directory.join("changed");
    let _ = std::fs::remove_file(&path);
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    db.execute_batch(sql).expect(sql);
    path
}

fn refusal(directory: &Path, sql: &str) -> Option<Error> {
    let trace = match Trace::open(&changed(directory, sql)) {
        Ok(trace) => trace,
        Err(error) => return Some(error),
    };
    trace
        .records(Order::OldestFirst, |item| {
            drop(item.into_record());
            ControlFlow::Continue(())
        })
        .err()
}

#[test]
fn other_databases_and_later_versions_are_refused() {
    let directory = directory();
    let is = |sql: &str, wanted: fn(&Error) -> bool| {
        let error = refusal(directory.path(), sql);
        assert!(error.as_ref().is_some_and(wanted), "{sql}: {error:?}");
    };
    let not_a_trace = |error: &Error| matches!(error, Error::NotATrace { .. });
    let newer = |error: &Error| {
        matches!(
            error,
            Error::Newer {
                major: 2,
                minor: 7,
                ..
            }
        )
    };
    is("PRAGMA application_id = 5", not_a_trace);
    is("PRAGMA user_version = 2007", newer);
    is("PRAGMA user_version = 3", not_a_trace);
    is("ALTER TABLE faults RENAME TO x", not_a_trace);
    is(
        "DROP VIEW fault_details; ALTER TABLE faults DROP COLUMN waker",
        not_a_trace,
    );
    is("DELETE FROM meta WHERE key = 'base_ns'", not_a_trace);
    let later =
        "PRAGMA user_version = 1007; ALTER TABLE faults ADD COLUMN more; CREATE TABLE new(a)";
    assert!(
        refusal(directory.path(), later).is_none(),
        "a later minor version is read"
    );
    let cause = "UPDATE sites SET cause = 'moonlight' WHERE cause IS NOT NULL";
    let later = format!("PRAGMA user_version = 1999; {cause}");
    assert!(
        refusal(directory.path(), &later).is_none(),
        "with causes that are new"
    );
    let text = directory.path().join("text");
    std::fs::write(
        &text,
        "not a database at all, just some text that is long enough",
    )
    .expect("written");
    assert!(matches!(Trace::open(&text), Err(Error::Database { .. })));
    std::fs::write(&text, "").expect("written");
    assert!(matches!(Trace::open(&text), Err(Error::NotATrace { .. })));
    assert!(matches!(
        Trace::open(directory.path()),
        Err(Error::NotATrace { .. })
    ));
}

#[test]
fn an_earlier_minor_version_is_read_without_what_it_lacks() {
    let directory = directory();
    for (lacks, version) in [
        (
            "DROP VIEW fault_details; ALTER TABLE sites DROP COLUMN begin_approximate",
            1000,
        ),
        (
            "DROP VIEW fault_details; ALTER TABLE faults DROP COLUMN waker_syscall",
            1001,
        ),
        ("DROP TABLE fault_io; DROP TABLE devices", 1001),
        ("DROP TABLE histories; DROP TABLE cache_fill_by", 1001),
        ("ALTER TABLE histories DROP COLUMN remover_cgroup", 1002),
    ] {
        let error = refusal(directory.path(), lacks);
        assert!(
            matches!(error, Some(Error::NotATrace { .. })),
            "{lacks}: {error:?}"
        );
        let older = format!("{lacks}; PRAGMA user_version = {version}");
        let error = refusal(directory.path(), &older);
        assert!(error.is_none(), "{older}: {error:?}");
    }
}

#[test]
fn what_would_compute_is_refused() {
    let directory = directory();
    for sql in [
        "ALTER TABLE faults RENAME TO old; CREATE VIEW faults AS WITH RECURSIVE n(i) AS (SELECT 1 \
         UNION ALL SELECT i + 1 FROM n) SELECT i AS id, 1 AS site, 1 AS end_rel_ns, 1 AS duration_ns, \
         1 AS blocked_ns, 1 AS runqueue_ns, 1 AS switches, 1 AS at, 1 AS slept_after_ns, 1 AS waker, \
         NULL AS waker_syscall FROM n",
        "ALTER TABLE losses RENAME TO old; CREATE TABLE losses(id INTEGER PRIMARY KEY, class, \
         reason, count AS (hex(zeroblob(1000000000))))",
        "ALTER TABLE losses RENAME TO old; CREATE TABLE losses(id INTEGER PRIMARY KEY, class, \
         reason, count) WITHOUT ROWID",
    ] {
        let error = refusal(directory.path(), sql);
        assert!(
            matches!(error, Some(Error::NotATrace { .. })),
            "{sql}: {error:?}"
        );
    }
}

#[test]
fn rows_that_make_no_sense_are_damage() {
    let directory = directory();
    for sql in [
        "UPDATE faults SET site = 999",
        "UPDATE faults SET site = -1",
        "UPDATE faults SET switches = 'many'",
        "UPDATE faults SET waker = 12345, slept_after_ns = 1",
        "UPDATE faults SET waker_syscall = hex(zeroblob(40000))",
        "UPDATE sites SET mode = 'x'",
        "UPDATE sites SET cause = 'x'",
        "UPDATE sites SET ended = NULL",
        "UPDATE sites SET at = 'both', base = NULL",
        "UPDATE sites SET user_stack = 77",
        "UPDATE frames SET line = -5",
        "UPDATE threads SET pid = 99999999999",
        "DELETE FROM frames",
        "DELETE FROM devices",
        "UPDATE fault_io SET device = -7",
        "UPDATE fault_io SET requests = -7",
        "UPDATE fault_io SET bytes = 'many'",
        "UPDATE devices SET minor = 99999999999",
        "UPDATE meta SET value = 0 WHERE key = 'page_bytes'",
        "UPDATE meta SET value = 4097 WHERE key = 'page_bytes'",
    ] {
        let error = refusal(directory.path(), sql);
        assert!(
            matches!(error, Some(Error::Damaged { .. })),
            "{sql}: {error:?}"
        );
    }
}

#[test]
fn odd_numbers_are_survived() {
    let directory = directory();
    for sql in [
        "UPDATE faults SET end_rel_ns = 9223372036854775807, duration_ns = -1, blocked_ns = -1",
        "UPDATE faults SET end_rel_ns = -9223372036854775808, at = -1, slept_after_ns = -1",
        "UPDATE meta SET value = -1 WHERE key IN ('base_ns', 'start_ns', 'written_ns')",
        "UPDATE sites SET base = -9223372036854775808",
        "UPDATE threads SET name = x'00ff0a'; UPDATE files SET path = x'00'",
        "UPDATE losses SET count = -1; UPDATE losses SET class = 'new'",
    ] {
        assert!(refusal(directory.path(), sql).is_none(), "{sql}");
    }
}

#[test]
fn what_a_killed_writer_had_begun_is_taken_back() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    // In the middle of a transaction, with part of it in the file: what a kill leaves.
    let db = Connection::open(&path).expect("opened");
    db.execute_batch(
        "PRAGMA cache_size = 1; BEGIN; UPDATE faults SET duration_ns = 1; UPDATE frames SET line = 9;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)
         INSERT INTO files SELECT i + 100, i, 0 FROM n",
    )
    .expect("begun");
    let killed = directory.path().join("killed");
    std::fs::copy(&path, &killed).expect("copied");
    let journal = directory.path().join("a-journal");
    std::fs::copy(&journal, directory.path().join("killed-journal")).expect("copied");
    let trace = Trace::open(&killed).expect("repaired");
    assert_eq!(json(&read(&trace, Order::OldestFirst)), json(&records()));
    drop(trace);
    assert!(!directory.path().join("killed-journal").exists());
}

#[test]
fn a_journal_that_names_files_is_refused() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let mut journal = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    journal.resize(600, 1);
    journal.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    std::fs::write(directory.path().join("a-journal"), &journal).expect("written");
    let refused = Trace::open(&path).err();
    assert!(
        matches!(refused, Some(Error::NotATrace { .. })),
        "{refused:?}"
    );
}

#[test]
fn tables_with_other_keys_are_refused() {
    let directory = directory();
    let threads = "pid INTEGER, tid INTEGER, name TEXT NOT NULL";
    let frames = "stack INTEGER NOT NULL, position INTEGER NOT NULL, frame INTEGER NOT NULL";
    let instead = |table: &str, columns: &str, behind: &str| {
        format!("DROP TABLE {table}; CREATE TABLE {table}({columns}){behind}")
    };
    let with_id = |more: &str| {
        let columns = format!("id INTEGER PRIMARY KEY, {more}, {threads}");
        instead("threads", &columns, "")
    };
    let in_place =
        |key: &str| instead("stack_frames", &format!("{frames}, {key}"), "WITHOUT ROWID");
    for sql in [
        with_id("RowID INTEGER"),
        with_id("oid INTEGER"),
        with_id("_rowid_"),
        instead("threads", &format!("id INTEGER, {threads}"), ""),
        instead("threads", &format!("id INT PRIMARY KEY, {threads}"), ""),
        instead(
            "threads",
            &format!("id INTEGER PRIMARY KEY DESC, {threads}"),
            "",
        ),
        instead(
            "threads",
            &format!("id INTEGER, {threads}, PRIMARY KEY (pid)"),
            "",
        ),
        instead(
            "threads",
            &format!("id INTEGER, {threads}, PRIMARY KEY (id, pid)"),
            "",
        ),
        in_place("PRIMARY KEY (position, stack)"),
        in_place("PRIMARY KEY (stack, position, frame)"),
        in_place("PRIMARY KEY (stack COLLATE NOCASE, position)"),
        instead("meta", "key TEXT, value PRIMARY KEY", "WITHOUT ROWID"),
    ] {
        let error = refusal(directory.path(), &sql);
        let other_key = |error: &Error| error.to_string().ends_with("has another key");
        assert!(error.as_ref().is_some_and(other_key), "{sql}: {error:?}");
    }
    for sql in [
        instead("losses", "id INTEGER PRIMARY KEY, class, reason, count", ""),
        instead(
            "losses",
            "id integer, class, reason, count, PRIMARY KEY (id)",
            "",
        ),
        "ALTER TABLE threads ADD COLUMN more".to_owned(),
    ] {
        assert!(refusal(directory.path(), &sql).is_none(), "{sql}");
    }
}

#[test]
fn long_names_are_damage() {
    let directory = directory();
    let long = "CAST(zeroblob(16385) AS TEXT)";
    for sql in [
        format!("UPDATE sites SET syscall = {long}"),
        format!("UPDATE threads SET name = {long}"),
        format!("UPDATE files SET path = {long}"),
        "UPDATE modules SET build_id = zeroblob(16385)".to_owned(),
        format!("UPDATE frames SET function = {long}"),
        format!("UPDATE losses SET reason = {long}"),
    ] {
        let error = refusal(directory.path(), &sql);
        let too_long = |error: &Error| error.to_string().ends_with("a name has 16385 bytes");
        assert!(error.as_ref().is_some_and(too_long), "{sql}: {error:?}");
    }
    let just = "UPDATE frames SET function = zeroblob(16384)";
    assert!(refusal(directory.path(), just).is_none());
    let words = format!("INSERT INTO arguments VALUES (99, {long})");
    assert!(
        refusal(directory.path(), &words).is_none(),
        "a word is no name"
    );
}

#[test]
fn a_stack_of_long_names_is_damage() {
    let directory = directory();
    // Modules are shared, and count once; functions are not.
    let stack = |module: &str, function: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 600)
             INSERT INTO frames(id, address, function, module, inlined)
             SELECT i + 1000, i, {function}, {module}, 0 FROM n;
             DELETE FROM stack_frames;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 600)
             INSERT INTO stack_frames SELECT stacks.id, i, i + 1000 FROM n, stacks;
             UPDATE modules SET build_id = zeroblob(16000)"
        )
    };
    let shared = stack("(SELECT min(id) FROM modules)", "'f'");
    assert!(refusal(directory.path(), &shared).is_none());
    let own_modules = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 600)
         INSERT INTO modules(id, path) SELECT i + 1000, 'm' FROM n; {}",
        stack("i + 1000", "'f'")
    );
    for sql in [stack("NULL", "zeroblob(16000)"), own_modules] {
        let error = refusal(directory.path(), &sql);
        let too_long = |error: &Error| error.to_string().contains("are too long");
        assert!(error.as_ref().is_some_and(too_long), "{sql}: {error:?}");
    }
}

#[test]
fn what_others_hold_is_not_held_twice() {
    let directory = directory();
    let path = directory.path().join("a.faulttrace");
    let long = |n: u32| Name::from(format!("{n}{}", "f".repeat(12_000)).as_str());
    let frame = |name: u32| Frame {
        address: u64::from(name),
        function: Some(long(name)),
        ..Frame::default()
    };
    // More than is remembered, but for the frame in all of them.
    let faults = (1..300).map(|n| {
        let mut fault = samples::fault();
        let stack = Stack {
            id: u64::from(n),
            frames: vec![frame(n), frame(0)],
            truncated: false,
        };
        fault.facts.user_stack = Some(Arc::new(stack));
        Record::Fault(Arc::new(fault))
    });
    write(&path, &faults.collect::<Vec<_>>());
    let trace = Trace::open(&path).expect("opened");
    let shared_by_all = |item: &Item<'_>| {
        let Item::Fault { site, .. } = item else {
            return None;
        };
        let stack = site.facts.user_stack.as_ref()?;
        stack.frames.last()?.function.clone()
    };
    let mut names: Vec<Name> = Vec::new();
    let done = trace.records(Order::OldestFirst, |item| {
        names.extend(shared_by_all(&item));
        ControlFlow::Continue(())
    });
    done.expect("readable");
    assert_eq!(names.len(), 299);
    assert!(names.iter().all(|name| name.is_same(&names[0])));
}
