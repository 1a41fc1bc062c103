//! Bytes to events.

use faulttrace_ebpf::goroutine::GoroutineEvent;
use faulttrace_ebpf::{FaultEvent, HistoryEvent, IoEvent, TaskEvent, kind};

/// What a record in the ring was.
#[derive(Clone, Copy)]
pub enum Decoded {
    /// A fault that is over.
    Fault(FaultEvent),
    /// Something happened to a traced thread or process.
    Task(TaskEvent),
    /// The past of the page of the thread's next fault.
    History(HistoryEvent),
    /// What devices did for the fault that comes next of its thread.
    Io(IoEvent),
    /// What the thread of its next fault was at, in a Go program.
    Goroutine(GoroutineEvent),
    /// A kind this version does not know; to be counted.
    Unknown(u32),
}

impl Decoded {
    /// When what it tells of happened, by the programs' clock: before it was put into the ring.
    pub fn time_ns(&self) -> Option<u64> {
        match self {
            Decoded::Fault(event) => Some(event.end_ns),
            Decoded::Task(event) => Some(event.time_ns),
            _ => None,
        }
    }
}

/// A record that is not what its kind says. The programs and this tracer are of different builds
/// or the ring is damaged: nothing after it can be trusted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("record of kind {kind} in the ring has {found} bytes instead of {expected}: {head}")]
pub struct Malformed {
    kind: u32,
    found: usize,
    expected: usize,
    /// The first bytes, in hexadecimal.
    head: String,
}

/// Decodes one record.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Malformed> {
    let Some(first) = bytes.first_chunk::<4>() else {
        return Err(malformed(0, bytes, size_of::<TaskEvent>()));
    };
    match u32::from_ne_bytes(*first) {
        found @ kind::FAULT => read(found, bytes).map(Decoded::Fault),
        found @ (kind::EXIT | kind::EXEC | kind::ADDED) => read(found, bytes).map(Decoded::Task),
        found @ kind::HISTORY => read(found, bytes).map(Decoded::History),
        found @ kind::GOROUTINE => read(found, bytes).map(Decoded::Goroutine),
        found @ kind::IO => read(found, bytes).map(Decoded::Io),
        unknown => Ok(Decoded::Unknown(unknown)),
    }
}

/// A record of the wire format: integers only, so that any bytes are a value.
trait Plain: Copy {}
impl Plain for FaultEvent {}
impl Plain for TaskEvent {}
impl Plain for HistoryEvent {}
impl Plain for IoEvent {}
impl Plain for GoroutineEvent {}

fn read<T: Plain>(kind: u32, bytes: &[u8]) -> Result<T, Malformed> {
    if bytes.len() != size_of::<T>() {
        return Err(malformed(kind, bytes, size_of::<T>()));
    }
    // SAFETY: the length was checked, `Plain` types have no invalid values, and the read does not
    // ask for alignment.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn malformed(kind: u32, bytes: &[u8], expected: usize) -> Malformed {
    let head = bytes
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Malformed {
        kind,
        found: bytes.len(),
        expected,
        head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_told_apart_from_a_bad_length() {
        assert!(matches!(
            decode(&77u32.to_ne_bytes()),
            Ok(Decoded::Unknown(77))
        ));
        let mut short = vec![0; size_of::<FaultEvent>() - 1];
        short[..4].copy_from_slice(&kind::FAULT.to_ne_bytes());
        let error = decode(&short).err().expect("too short");
        assert_eq!(
            (error.found, error.expected),
            (short.len(), size_of::<FaultEvent>())
        );
        assert!(decode(&[1, 0]).is_err());
    }

    #[test]
    fn every_length_of_garbage_is_survived() {
        for kind in 0..20u32 {
            for length in 0..300 {
                let mut bytes = vec![0xa5; length];
                if length >= 4 {
                    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
                }
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn fields_arrive_where_they_belong() {
        let mut bytes = vec![0; size_of::<TaskEvent>()];
        bytes[..4].copy_from_slice(&kind::EXIT.to_ne_bytes());
        bytes[8..12].copy_from_slice(&7u32.to_ne_bytes());
        bytes[24..32].copy_from_slice(&9u64.to_ne_bytes());
        let Ok(Decoded::Task(event)) = decode(&bytes) else {
            panic!("no task event")
        };
        assert_eq!((event.tgid, event.maj_flt), (7, 9));
    }
}
