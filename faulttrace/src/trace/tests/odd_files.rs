//! Files that are no ordinary database, and what stands beside them.

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusqlite::Connection;

use super::{directory, json, read, records, start, write};
use crate::model::Name;
use crate::model::summary::samples;
use crate::trace::{Error, Item, Options, Order, Trace, Writer};

const PAGE: usize = 4096;

/// What becomes of opening a file, if anything ever does.
fn opened(path: &Path) -> Result<Trace, Error> {
    let (send, receive) = mpsc::channel();
    let path = path.to_owned();
    // It stays behind when it hangs, and ends with the tests.
    std::thread::spawn(move || {
        let _ = send.send(Trace::open(&path));
    });
    let answer = receive.recv_timeout(Duration::from_secs(120));
    answer.expect("an answer in time")
}

fn refusal(path: &Path) -> String {
    match opened(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

fn two_bytes(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("small").to_be_bytes()
}

/// A page of the schema's tree: its header, and cells from the end.
fn page(header_at: usize, kind: u8, cells: &[Vec<u8>], right: Option<u32>) -> Vec<u8> {
    let (mut page, mut end, mut pointers) = (vec![0; PAGE], PAGE, Vec::new());
    for cell in cells {
        end -= cell.len();
        page[end..end + cell.len()].copy_from_slice(cell);
        pointers.extend(two_bytes(end));
    }
    let mut header = vec![kind, 0, 0];
    header.extend(two_bytes(cells.len()));
    header.extend(two_bytes(end));
    header.push(0);
    header.extend(right.iter().flat_map(|right| right.to_be_bytes()));
    header.extend(pointers);
    page[header_at..header_at + header.len()].copy_from_slice(&header);
    page
}

/// 300 pointers to one page, the first of them to another if that is given.
fn pointers(header_at: usize, child: u32, first: Option<u32>) -> Vec<u8> {
    let cell = |index| {
        let to = if index == 0 {
            first.unwrap_or(child)
        } else {
            child
        };
        let mut cell = to.to_be_bytes().to_vec();
        // A row number of one byte: nobody compares them when all rows are read.
        cell.push(1);
        cell
    };
    let cells: Vec<_> = (0..300).map(cell).collect();
    page(header_at, 5, &cells, Some(child))
}

/// Makes the schema's tree one that leads to the same harmless rows 300^8 times.
fn multiply_schema(path: &Path) {
    let db = Connection::open(path).expect("opened");
    let sql = "CREATE TABLE zz(a UNIQUE)";
    db.execute_batch(sql).expect("created");
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_zz_1'";
    let root: u8 = db.query_row(sql, [], |row| row.get(0)).expect("a page");
    drop(db);
    let mut file = std::fs::read(path).expect("read");
    let pages = u32::try_from(file.len() / PAGE).expect("small");
    // What was the root becomes an ordinary page.
    let mut old = file[..PAGE].to_vec();
    let cells = usize::from(u16::from_be_bytes([old[103], old[104]]));
    let header = if old[100] == 5 { 12 } else { 8 } + 2 * cells;
    old.copy_within(100..100 + header, 0);
    let mut row = vec![6, 23, 55, 17, 1, 0];
    row.extend(b"indexsqlite_autoindex_zz_1zz");
    row.push(root);
    let cell = [vec![u8::try_from(row.len()).expect("short"), 1], row].concat();
    let mut added = vec![old, page(0, 13, &vec![cell; 60], None)];
    for level in 0..7 {
        added.push(pointers(0, pages + 2 + level, None));
    }
    let mut new = pointers(100, pages + 9, Some(pages + 1));
    new[..100].copy_from_slice(&file[..100]);
    new[28..32].copy_from_slice(&(pages + 9).to_be_bytes());
    file[..PAGE].copy_from_slice(&new);
    file.extend(added.concat());
    std::fs::write(path, file).expect("written");
}

#[test]
fn a_schema_without_end_is_refused() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    multiply_schema(&path);
    let error = opened(&path).err();
    let Some(Error::Damaged { what, .. }) = &error else {
        panic!("{error:?}")
    };
    assert!(what.contains("more steps"), "{what}");
}

#[test]
fn a_large_schema_is_read() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    for table in 0..300 {
        let sql = format!("CREATE TABLE later_{table}(a, b, c UNIQUE)");
        db.execute_batch(&sql).expect("created");
    }
    drop(db);
    assert!(opened(&path).is_ok());
}

#[test]
fn a_pipe_is_not_waited_for() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let pipe = beside(&path, "-journal");
    mkfifo(&pipe, Mode::S_IRWXU).expect("made");
    assert!(refusal(&path).contains("a journal is a regular file"));
    assert!(refusal(&pipe).contains("not a regular file"));
}

#[test]
fn write_ahead_logs_are_refused_and_not_made() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let log = beside(&path, "-wal");
    std::fs::write(&log, "").expect("written");
    assert!(refusal(&path).contains("write-ahead log beside it"));
    std::fs::remove_file(&log).expect("removed");
    assert!(opened(&path).is_ok());
    for (at, value) in [(18, 2), (19, 2), (19, 7)] {
        let file = std::fs::File::options().write(true).open(&path);
        let file = file.expect("opened");
        file.write_all_at(&[1, 1], 18).expect("written");
        file.write_all_at(&[value], at).expect("written");
        assert!(refusal(&path).contains("with a write-ahead log"), "{at}");
        assert!(!log.exists() && !beside(&path, "-shm").exists());
    }
}

/// A trace as a killed writer leaves it: with part of a transaction in it, and its journal.
fn killed(directory: &Path, before: &str) -> PathBuf {
    let path = directory.join("a");
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    db.execute_batch(before).expect("changed");
    db.execute_batch(
        "PRAGMA cache_size = 1; BEGIN; UPDATE faults SET duration_ns = 1; UPDATE frames SET line = 9;
         CREATE TABLE more(a);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)
         INSERT INTO files SELECT i + 100, i, 0 FROM n",
    )
    .expect("begun");
    let killed = directory.join("killed");
    std::fs::copy(&path, &killed).expect("copied");
    std::fs::copy(beside(&path, "-journal"), beside(&killed, "-journal")).expect("copied");
    killed
}

#[test]
fn a_journal_is_found_through_a_link() {
    let directory = directory();
    let killed = killed(directory.path(), "");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("killed", &link).expect("linked");
    let trace = Trace::open(&link).expect("repaired");
    assert_eq!(json(&read(&trace, Order::OldestFirst)), json(&records()));
    assert_eq!(trace.path(), link);
    assert!(!beside(&killed, "-journal").exists());
    // A pipe there, too.
    mkfifo(&beside(&killed, "-journal"), Mode::S_IRWXU).expect("made");
    assert!(refusal(&link).contains("a journal is a regular file"));
}

#[test]
fn a_journal_that_brings_back_a_write_ahead_log_is_refused() {
    let directory = directory();
    let killed = killed(directory.path(), "");
    let journal = beside(&killed, "-journal");
    let mut bytes = std::fs::read(&journal).expect("read");
    // Page 1 as it is in the journal, in which neither byte counts for the checksum.
    let magic = b"SQLite format 3\0";
    let page = bytes.windows(16).position(|bytes| bytes == magic);
    let page = page.expect("page 1 in the journal");
    bytes[page + 18..page + 20].copy_from_slice(&[2, 2]);
    std::fs::write(&journal, bytes).expect("written");
    assert!(refusal(&killed).contains("with a write-ahead log"));
    assert!(!beside(&killed, "-shm").exists());
}

#[test]
fn a_trace_that_is_locked_is_said_to_be() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    // With a journal that has content.
    db.execute_batch(
        "PRAGMA cache_size = 1; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;
         UPDATE faults SET duration_ns = 1;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)
         INSERT INTO files SELECT i + 100, i, 0 FROM n",
    )
    .expect("begun");
    let journal = std::fs::metadata(beside(&path, "-journal")).expect("a journal");
    assert!(journal.len() > 0);
    assert!(refusal(&path).contains("another process keeps it locked"));
}

#[test]
fn what_is_replaced_by_force_comes_back_if_the_new_one_cannot_be_made() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| std::fs::read_to_string(path(name)).expect(name);
    std::fs::write(path("a"), "precious").expect("written");
    std::fs::write(path("a.replaced"), "of somebody else").expect("written");
    // What has the journal's name cannot be removed.
    std::fs::create_dir(path("a-journal")).expect("made");
    let force = Options {
        force: true,
        ..Options::default()
    };
    let refused = Writer::create(&path("a"), &force);
    assert!(matches!(refused, Err(Error::Io { .. })));
    assert_eq!(text("a"), "precious");
    std::fs::remove_dir(path("a-journal")).expect("removed");
    std::fs::write(path("a-journal"), "repairs it").expect("written");
    let writer = Writer::create(&path("a"), &force).expect("created");
    assert_eq!(text("a.replaced-1"), "precious");
    assert_eq!(text("a.replaced-1-journal"), "repairs it");
    // Nothing was begun: the old one comes back, and so does what repairs it.
    writer.discard();
    assert_eq!(text("a"), "precious");
    assert_eq!(text("a-journal"), "repairs it");
    let mut writer = Writer::create(&path("a"), &force).expect("created");
    writer.begin(&start()).expect("begun");
    writer.finish(1).expect("finished");
    assert_eq!(text("a.replaced"), "of somebody else");
    let left = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(left, 2);
}

#[test]
fn a_path_of_any_length_is_saved_so_that_it_can_be_read() {
    let directory = directory();
    let path = directory.path().join("a");
    let mut fault = samples::fault();
    let long = vec![b'x'; 100 << 10];
    fault.facts.place.path = Some(Name::from(&long[..]));
    let mut writer = Writer::create(&path, &Options::default()).expect("created");
    writer.begin(&start()).expect("begun");
    writer.write(&[samples::record(fault)], 1).expect("written");
    writer.finish(1).expect("finished");
    let mut lengths = Vec::new();
    let trace = Trace::open(&path).expect("opened");
    let read = trace.records(Order::OldestFirst, |item| {
        if let Item::Fault { site, .. } = item {
            let path = site.facts.place.path.as_ref();
            lengths.extend(path.map(|path| path.as_bytes().len()));
        }
        ControlFlow::Continue(())
    });
    read.expect("readable");
    assert_eq!(lengths, [Name::MAX_BYTES]);
}
