//! The process that reads programs and libraries for the tracer, and the tracer's side of it.
//!
//! The process greets when it is there. Then one question at a time: a message with a number for the file,
//! what is asked and an offset, with the file's descriptor when it is asked about for the first time; the
//! answer is JSON. If the process dies or does not answer, another process is started, and the file that was asked about is read without
//! its debug information from then on, or not at all if that was no better.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, send, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build_id;
use super::elf_names::{ElfFrame, Names, Reader};
use super::go::runtime::GoRuntime;
use super::maps::FileId;
use super::starting::Starting;
use crate::privileges;

/// The only argument of this program when it is to be the helper. Not for users.
pub const ARGUMENT: &str = "__names-helper";

/// How long an answer may take: large debug information takes seconds.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// How long the end of a process may take that was killed, and how long to rest between two looks.
const END_WAIT: Duration = Duration::from_secs(1);
const END_PAUSE: Duration = Duration::from_millis(1);
/// Longest answer; the socket's buffer takes more.
const MAX_ANSWER: usize = 128 * 1024;
/// Memory that the helper may allocate; files are mapped besides.
const MAX_DATA: u64 = 2 << 30;
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
    /// Files whose debug information cannot be read.
    without_debug: HashSet<FileId>,
    /// Files whose tables for unwinding cannot be read.
    without_callers: HashSet<FileId>,
}

struct Process {
    child: Child,
    socket: OwnedFd,
    /// Numbers of the files that it has.
    sent: HashMap<FileId, u32>,
}

impl Names for Helper {
    fn look_up(&mut self, id: FileId, file: &File, offset: u64) -> Option<Vec<ElfFrame>> {
        if !self.without_debug.contains(&id) {
            match self.ask(Some(id), file, About::Debug, offset) {
                Ok(found) => return found,
                Err(error) => {
                    log::warn!("debug information of a file is left out: {error}");
                    self.without_debug.insert(id);
                }
            }
        }
        self.ask(Some(id), file, About::Table, offset)
            .unwrap_or_else(|error| {
                log::warn!("symbols of a file are left out: {error}");
                None
            })
    }

    fn hides_caller(&mut self, id: FileId, file: &File, offset: u64) -> Option<bool> {
        if self.without_callers.contains(&id) {
            return None;
        }
        self.ask(Some(id), file, About::Caller, offset)
            .unwrap_or_else(|error| {
                log::warn!("callers that frame pointers hide in a file are left out: {error}");
                self.without_callers.insert(id);
                None
            })
    }

    fn build_id(&mut self, id: FileId, file: &File) -> Option<Vec<u8>> {
        let found: Option<Vec<u8>> =
            self.ask(Some(id), file, About::BuildId, 0)
                .unwrap_or_else(|error| {
                    log::warn!("the build id of a file is left out: {error}");
                    None
                });
        // The helper may be what a hostile file made of it.
        found.filter(|found| found.len() <= build_id::MAX_BYTES)
    }

    fn go_runtime(&mut self, file: &File) -> io::Result<Option<GoRuntime>> {
        let read: Option<GoAnswer> = self.ask(None, file, About::Go, 0)?;
        let read = read.ok_or(io::ErrorKind::InvalidData)?;
        match read.map_err(io::Error::other)?.map(GoRuntime::believed) {
            Some(None) => Err(io::ErrorKind::InvalidData.into()),
            found => Ok(found.flatten()),
        }
    }
}

impl Helper {
    /// `id`: none for a file that the helper is not to keep.
    fn ask<T: DeserializeOwned>(
        &mut self,
        id: Option<FileId>,
        file: &File,
        about: About,
        offset: u64,
    ) -> io::Result<Option<T>> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start()?),
        };
        let answer = process.ask(id, file, about, offset);
        if answer.is_err() {
            self.process = None;
        }
        answer
    }
}

impl Process {
    fn start() -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let _starting = Starting::begin();
        let child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Self {
            child,
            socket: ours,
            sent: HashMap::new(),
        };
        // Its greeting: from now on it has none of our descriptors.
        match process.receive() {
            Ok(()) => Ok(process),
            Err(error) => {
                process.end();
                Err(error)
            }
        }
    }

    /// Kills it and waits until it has ended, though not for ever: a file system may hang it.
    fn end(mut self) {
        let _ = self.child.kill();
        let deadline = Instant::now() + END_WAIT;
        while let Ok(None) = self.child.try_wait()
            && Instant::now() < deadline
        {
            thread::sleep(END_PAUSE);
        }
    }

    fn ask<T: DeserializeOwned>(
        &mut self,
        id: Option<FileId>,
        file: &File,
        about: About,
        offset: u64,
    ) -> io::Result<Option<T>> {
        let new = u32::try_from(self.sent.len()).map_err(io::Error::other)?;
        let number = id.and_then(|id| self.sent.get(&id).copied());
        let question = question(number.unwrap_or(new), about, offset);
        let descriptor = [file.as_raw_fd()];
        let with_file = [ControlMessage::ScmRights(&descriptor)];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&question)],
            if number.is_none() { &with_file } else { &[] },
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        if let Some(id) = id {
            self.sent.entry(id).or_insert(new);
        }
        self.receive()
    }

    fn receive<T: DeserializeOwned>(&self) -> io::Result<T> {
        self.wait()?;
        let mut answer = vec![0; MAX_ANSWER];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let answer = answer.get(..length).unwrap_or_default();
        serde_json::from_slice(answer).map_err(io::Error::other)
    }

    fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have died already. Killed, it is gone at once, even if a file system hangs it.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

fn question(number: u32, about: About, offset: u64) -> [u8; QUESTION_BYTES] {
    let mut bytes = [0; QUESTION_BYTES];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes[4..8].copy_from_slice(&about.word().to_ne_bytes());
    bytes[8..].copy_from_slice(&offset.to_ne_bytes());
    bytes
}

/// The helper: answers until the tracer is gone. Standard input is its socket.
pub fn serve() -> ExitCode {
    let stdin = io::stdin();
    if send(
        stdin.as_raw_fd(),
        &json(&None::<()>),
        MsgFlags::MSG_NOSIGNAL,
    )
    .is_err()
    {
        return ExitCode::FAILURE;
    }
    confine();
    let mut files = HashMap::new();
    let mut reader = Reader::default();
    while let Ok(Some(question)) = receive(stdin.as_fd()) {
        let number = question.number;
        let mut passing = None;
        match question.file {
            // Its descriptor will mean another file: nobody may remember anything by that.
            file if question.about == About::Go => passing = file,
            Some(file) => drop(files.insert(number, file)),
            None => {}
        }
        let file = files.get(&number);
        let names = |reader: &mut Reader, debug| {
            file.and_then(|file| reader.look_up(file, question.offset, debug))
        };
        let answer = match question.about {
            About::Table => encode(names(&mut reader, false)),
            About::Debug => encode(names(&mut reader, true)),
            About::Caller => {
                json(&file.and_then(|file| reader.hides_caller(file, question.offset)))
            }
            About::BuildId => json(&file.and_then(build_id::read)),
            About::Go => json(&passing.as_ref().map(go)),
        };
        if send(stdin.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn go(file: &File) -> GoAnswer {
    GoRuntime::of_file(file).map_err(|error| error.to_string())
}

/// Gives up what is not needed. Whatever fails here leaves the helper with more than it needs.
fn confine() {
    let _ = prctl::set_name(c"faulttrace-name");
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = setrlimit(Resource::RLIMIT_DATA, MAX_DATA, MAX_DATA);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    privileges::keep(privileges::HELPER);
}

/// What the tracer asks.
struct Question {
    number: u32,
    about: About,
    offset: u64,
    file: Option<File>,
}

/// The next question; `None` when the tracer is gone.
fn receive(socket: BorrowedFd<'_>) -> nix::Result<Option<Question>> {
    let mut bytes = [0; QUESTION_BYTES];
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    if message.bytes != QUESTION_BYTES {
        return Ok(None);
    }
    let mut file = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            for descriptor in descriptors {
                // SAFETY: the kernel has just made this descriptor for us.
                file = Some(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }));
            }
        }
    }
    let (number, rest) = bytes.split_at(4);
    let (about, offset) = rest.split_at(4);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
    let Some(about) = About::of_word(word(about)) else {
        return Ok(None);
    };
    Ok(Some(Question {
        number: word(number),
        about,
        offset: offset.try_into().map_or(0, u64::from_ne_bytes),
        file,
    }))
}

/// An answer that is short.
fn json<T: Serialize>(found: &Option<T>) -> Vec<u8> {
    serde_json::to_vec(found).unwrap_or_else(|_| b"null".to_vec())
}

/// An answer that fits: if all of it does not, the function alone, or nothing.
fn encode(found: Option<Vec<ElfFrame>>) -> Vec<u8> {
    let json = |found: &Option<Vec<ElfFrame>>| {
        serde_json::to_vec(found)
            .ok()
            .filter(|json| json.len() <= MAX_ANSWER)
    };
    json(&found)
        .or_else(|| {
            let function = found.and_then(|frames| frames.into_iter().next_back())?;
            json(&Some(vec![function]))
        })
        .unwrap_or_else(|| b"null".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> ElfFrame {
        ElfFrame {
            function: "f".repeat(length),
            offset: Some(1),
            file: None,
            line: None,
            inlined: false,
        }
    }

    #[test]
    fn answers_fit() {
        let read = |bytes: &[u8]| -> Option<Vec<ElfFrame>> {
            serde_json::from_slice(bytes).expect("an answer")
        };
        assert_eq!(read(&encode(None)), None);
        let both = vec![frame(3), frame(4)];
        assert_eq!(read(&encode(Some(both.clone()))), Some(both));
        let long = encode(Some(vec![frame(MAX_ANSWER), frame(4)]));
        assert_eq!(read(&long), Some(vec![frame(4)]));
        assert_eq!(read(&encode(Some(vec![frame(MAX_ANSWER)]))), None);
    }

    #[test]
    fn a_helper_that_ends_at_once_costs_the_file_only() {
        // The test program is no helper: given the argument it runs no test and ends.
        let mut helper = Helper::default();
        let file = File::open("/proc/self/exe").expect("our own program");
        let id = FileId { dev: 0, ino: 1 };
        assert_eq!(helper.look_up(id, &file, 0), None);
        assert_eq!(helper.hides_caller(id, &file, 0), None);
        assert_eq!(helper.build_id(id, &file), None);
        assert!(helper.go_runtime(&file).is_err(), "nobody has read it");
        assert!(helper.process.is_none());
    }

    #[test]
    fn questions_arrive_with_their_file() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("sockets");
        let file = File::open("/proc/self/exe").expect("our own program");
        let descriptor = [file.as_raw_fd()];
        let with_file = [ControlMessage::ScmRights(&descriptor)];
        sendmsg::<()>(
            ours.as_raw_fd(),
            &[IoSlice::new(&question(7, About::BuildId, 0x1234))],
            &with_file,
            MsgFlags::empty(),
            None,
        )
        .expect("sent");
        let got = receive(theirs.as_fd())
            .expect("received")
            .expect("a question");
        let told = (got.number, got.about, got.offset);
        assert_eq!(told, (7, About::BuildId, 0x1234));
        let length = |file: &File| file.metadata().expect("metadata").len();
        assert_eq!(length(&got.file.expect("a file")), length(&file));
        drop(ours);
        assert!(receive(theirs.as_fd()).expect("the end").is_none());
    }
}
