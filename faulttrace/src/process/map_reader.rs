//! Reads memory maps on threads of their own: `/proc/PID/maps` takes the `mmap_lock` of the target
//! and hangs for as long as the target does.

mod held;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

pub(super) use self::held::Held;
use super::elf_files::{ElfFiles, Origin};
use super::maps;
use super::space::Snapshot;
use super::threads;
use crate::privileges;

/// How many reads may hang at once; beyond that, memory maps are late.
const MAX_READS: usize = 64;
/// How many programs of one process are opened before anybody needs them: one with very many is not to have
/// all others closed.
const MAX_OPENED: usize = 1024;
/// No memory map is longer.
const MAX_BYTES: u64 = 64 << 20;
/// How much of it is read at a time.
const CHUNK: usize = 256 << 10;
/// Bytes of memory for each that is read: the text, and what is made of it.
const FOR_EACH_READ: usize = 4;

/// What a thread tells.
enum Told {
    Answer(Answer),
    /// It has ended.
    Ended(u64),
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) pid: u32,
    token: u64,
    pub(super) result: io::Result<Snapshot>,
    /// For the result.
    _memory: Held,
}

/// Where memory maps are read.
pub(super) type ReadMap = Box<dyn Fn(u32, &mut Held) -> io::Result<Snapshot> + Send + Sync>;

/// Sends requests, takes answers.
pub(super) struct MapReader {
    files: ElfFiles,
    read: Arc<ReadMap>,
    sender: Sender<Told>,
    receiver: Receiver<Told>,
    asked: HashMap<u32, u64>,
    /// Reads whose thread has not ended, wanted or not.
    running: HashSet<u64>,
    next_token: u64,
}

impl MapReader {
    pub(super) fn new(files: ElfFiles, read: ReadMap) -> Self {
        let (sender, receiver) = channel();
        Self {
            files,
            read: Arc::new(read),
            sender,
            receiver,
            asked: HashMap::new(),
            running: HashSet::new(),
            next_token: 0,
        }
    }

    /// Begins to read. Does nothing if a read of this process is under way, or too many are.
    pub(super) fn request(&mut self, pid: u32) {
        if self.asked.contains_key(&pid) || self.running.len() >= MAX_READS {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        let (sender, files, read) = (
            self.sender.clone(),
            self.files.clone(),
            Arc::clone(&self.read),
        );
        let work = move || {
            privileges::keep(privileges::MAPS);
            answer(pid, token, &sender, &files, &read);
        };
        let spawned = thread::Builder::new()
            .name(format!("maps of {pid}"))
            .spawn(work);
        if spawned.is_ok() {
            self.asked.insert(pid, token);
            self.running.insert(token);
        }
    }

    /// Whether an answer is to come.
    pub(super) fn is_waiting_for(&self, pid: u32) -> bool {
        self.asked.contains_key(&pid)
    }

    /// What is read for this process now is not wanted any more.
    pub(super) fn disregard(&mut self, pid: u32) {
        self.asked.remove(&pid);
    }

    /// The next answer that is wanted, waiting for it until `deadline`; `None` means do not wait.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Option<Answer> {
        loop {
            let told = match deadline {
                None => self.receiver.try_recv().ok()?,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    self.receiver.recv_timeout(left).ok()?
                }
            };
            let answer = match told {
                Told::Ended(token) => {
                    self.running.remove(&token);
                    continue;
                }
                Told::Answer(answer) => answer,
            };
            if self.asked.get(&answer.pid) == Some(&answer.token) {
                self.asked.remove(&answer.pid);
                return Some(answer);
            }
        }
    }
}

fn answer(pid: u32, token: u64, sender: &Sender<Told>, files: &ElfFiles, read: &ReadMap) {
    let mut memory = Held::default();
    let result = read(pid, &mut memory);
    let programs = result.as_ref().map_or_else(
        |_| Vec::new(),
        |snapshot| {
            snapshot
                .mappings
                .iter()
                .filter(|mapping| mapping.executable)
                .filter_map(|mapping| Some((mapping.file?, Origin::new(pid, mapping))))
                .take(MAX_OPENED)
                .collect()
        },
    );
    // Nobody listens any more once the session has ended.
    let _ = sender.send(Told::Answer(Answer {
        pid,
        token,
        result,
        _memory: memory,
    }));
    // The process may end any time: open its programs while that is possible. Whoever needs one
    // meanwhile waits for this.
    for (id, origin) in programs {
        if let Some(file) = files.get(id) {
            let _ = file.open(&origin);
        }
    }
    let _ = sender.send(Told::Ended(token));
}

/// Reads a process's map from `/proc`. Afterwards, `memory` is what the result takes.
pub(super) fn read(pid: u32, memory: &mut Held) -> io::Result<Snapshot> {
    let began = Instant::now();
    let mut bytes = read_bounded(&format!("/proc/{pid}/maps"), memory)?;
    if bytes.is_empty() {
        // Its first thread has ended before the others, or it has ended.
        bytes = threads::list(pid)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|tid| read_bounded(&format!("/proc/{pid}/task/{tid}/maps"), memory).ok())
            .find(|bytes| !bytes.is_empty())
            .ok_or(io::ErrorKind::NotFound)?;
    }
    let took = began.elapsed();
    let (mappings, left_out) = maps::parse(&bytes);
    drop(bytes);
    memory.hold(maps::bytes_of(&mappings))?;
    if left_out > 0 {
        log::warn!("{left_out} lines of /proc/{pid}/maps are not understood or too many");
    }
    let status = threads::read(pid, &format!("/proc/{pid}/status")).unwrap_or_default();
    let own_pid = threads::status_field(&status, "NStgid:")
        .and_then(|ids| ids.split_ascii_whitespace().next_back()?.parse().ok())
        .unwrap_or(pid);
    let uid = std::fs::metadata(format!("/proc/{pid}")).map_or(u32::MAX, |found| found.uid());
    Ok(Snapshot {
        mappings,
        own_pid,
        uid,
        took,
    })
}

fn read_bounded(path: &str, memory: &mut Held) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?.take(MAX_BYTES);
    let mut bytes = Vec::new();
    loop {
        memory.hold((bytes.len() + CHUNK).saturating_mul(FOR_EACH_READ))?;
        let mut chunk = file.by_ref().take(CHUNK as u64);
        if chunk.read_to_end(&mut bytes)? < CHUNK {
            break;
        }
    }
    if bytes.len() as u64 == MAX_BYTES {
        log::warn!("{path} is longer than {MAX_BYTES} bytes: the rest is not read");
        // The last line may be cut, with a path that is another's.
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(end.unwrap_or(0));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, Write as _};
    use std::time::Duration;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(10))
    }

    #[test]
    fn a_living_process_is_read() {
        let mut reader = MapReader::new(ElfFiles::default(), Box::new(read));
        let pid = std::process::id();
        reader.request(pid);
        assert!(reader.is_waiting_for(pid));
        let answer = reader.next(soon()).expect("answered");
        assert_eq!(answer.pid, pid);
        assert!(!answer.result.expect("read").mappings.is_empty());
        assert!(!reader.is_waiting_for(pid));
    }

    #[test]
    fn what_is_read_in_chunks_is_read_whole() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a path").to_owned();
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            file.as_file().set_len(0).expect("cut");
            file.rewind().expect("at the beginning");
            file.write_all(&bytes).expect("written");
            let read = read_bounded(&path, &mut Held::default()).expect("read");
            assert!(read == bytes, "{length} bytes");
            let among_large = read_bounded(&path, &mut Held::without_room());
            assert_eq!(among_large.is_ok(), length < CHUNK, "{length} bytes");
        }
    }

    #[test]
    fn what_does_not_exist_is_an_error() {
        let mut reader = MapReader::new(ElfFiles::default(), Box::new(read));
        reader.request(u32::MAX);
        assert!(reader.next(soon()).expect("answered").result.is_err());
    }

    #[test]
    fn an_answer_not_wanted_any_more_is_dropped() {
        let mut reader = MapReader::new(ElfFiles::default(), Box::new(read));
        let pid = std::process::id();
        reader.request(pid);
        reader.disregard(pid);
        reader.request(u32::MAX);
        assert_eq!(reader.next(soon()).expect("answered").pid, u32::MAX);
    }
}
