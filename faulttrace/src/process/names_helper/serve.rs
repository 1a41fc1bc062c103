//! The process itself: answers what it is asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use serde::Serialize;

use super::{About, GoAnswer, MAX_ANSWER, QUESTION_BYTES};
use crate::privileges;
use crate::process::build_id;
use crate::process::elf_names::{ElfFrame, Reader};
use crate::process::go::runtime::GoRuntime;

/// Memory that the helper may allocate; files are mapped besides.
const MAX_DATA: u64 = 2 << 30;

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
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::IoSlice;

    use super::super::process::{question, sockets};
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
    fn questions_arrive_with_their_file() {
        let (ours, theirs) = sockets().expect("sockets");
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
