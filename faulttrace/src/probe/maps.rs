//! The maps, as userspace reads and writes them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use faulttrace_ebpf::counter::{self, Class};
use faulttrace_ebpf::{Inflight, MAX_FRAMES, StackValue};

use super::Error;

/// The kernel rounds a mapping up to whole pages.
const MAPPED_BYTES: usize = size_of::<u64>();

/// An entry that is there stays as it is (include/uapi/linux/bpf.h).
pub(super) const BPF_NOEXIST: u64 = 1;

/// A key or value of a map by the wire format. aya asks that the type promises to be plain bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: repr(C) integers without padding; every bit pattern is a value.
unsafe impl Pod for Plain<Inflight> {}
// SAFETY: as above.
unsafe impl Pod for Plain<StackValue> {}

/// A stack as the kernel recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawStack {
    /// Instruction addresses, innermost first.
    pub frames: Vec<u64>,
    /// The process it belongs to; 0 for a kernel stack.
    pub tgid: u32,
    /// It has as many frames as could be recorded, so there may be more.
    pub truncated: bool,
    /// The word at the thread's stack pointer, if it was read with the stack; 0 = not.
    pub top: u64,
}

/// Sum over CPUs of each counter, by index of `faulttrace_ebpf::counter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters(pub [u64; counter::COUNT as usize]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; counter::COUNT as usize])
    }
}

impl Counters {
    /// One counter; 0 for an index that does not exist.
    pub fn get(&self, index: u32) -> u64 {
        self.0.get(index as usize).copied().unwrap_or(0)
    }

    /// Those that tell of no loss, for the log.
    pub fn bookkeeping(&self) -> String {
        let counted = counter::ALL.iter().zip(self.0);
        let told = counted.filter(|((_, class), count)| *class == Class::Diagnostic && *count > 0);
        let told: Vec<_> = told
            .map(|((name, _), count)| format!("{name} {count}"))
            .collect();
        told.join(", ")
    }
}

pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, Error> {
    ebpf.take_map(name).ok_or_else(|| Error::Map {
        name,
        reason: "not in the object".to_owned(),
    })
}

pub(super) fn refused(name: &'static str, error: &dyn std::error::Error) -> Error {
    Error::Map {
        name,
        reason: super::chain(error),
    }
}

/// The first value of an array of words.
pub(super) fn first_word(ebpf: &Ebpf, name: &'static str) -> Result<u64, Error> {
    let map = ebpf.map(name).ok_or_else(|| Error::Map {
        name,
        reason: "not in the object".to_owned(),
    })?;
    let words: Array<_, u64> = Array::try_from(map).map_err(|error| refused(name, &error))?;
    words.get(&0, 0).map_err(|error| refused(name, &error))
}

/// Inserts every id into a set of the filter.
pub(super) fn fill(ebpf: &mut Ebpf, name: &'static str, ids: &[u32]) -> Result<(), Error> {
    let mut set = set_of(ebpf, name)?;
    for id in ids {
        set.insert(id, 1, 0)
            .map_err(|error| refused(name, &error))?;
    }
    Ok(())
}

/// Takes ids out of a set of the filter; one may have been taken out already.
pub(super) fn remove(ebpf: &mut Ebpf, name: &'static str, ids: &[u32]) -> Result<(), Error> {
    let mut set = set_of(ebpf, name)?;
    for id in ids {
        match set.remove(id) {
            Ok(()) => {}
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(name, &error)),
        }
    }
    Ok(())
}

fn set_of<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<HashMap<&'a mut MapData, u32, u32>, Error> {
    let map = ebpf.map_mut(name).ok_or_else(|| Error::Map {
        name,
        reason: "not in the object".to_owned(),
    })?;
    HashMap::try_from(map).map_err(|error| refused(name, &error))
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    Done,
    /// There was one already.
    Known,
    NoRoom,
}

fn insertion(result: Result<(), MapError>) -> Result<Inserted, MapError> {
    let Err(error) = result else {
        return Ok(Inserted::Done);
    };
    let number = match &error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match number {
        Some(libc::EEXIST) => Ok(Inserted::Known),
        // What a hash table says that is full (kernel/bpf/hashtab.c).
        Some(libc::E2BIG) => Ok(Inserted::NoRoom),
        _ => Err(error),
    }
}

pub(super) struct InflightMap(HashMap<MapData, u32, Plain<Inflight>>);

impl InflightMap {
    const NAME: &'static str = "INFLIGHT";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        HashMap::try_from(take(ebpf, Self::NAME)?)
            .map(Self)
            .map_err(|error| refused(Self::NAME, &error))
    }

    /// Every entry; one that goes away while it is read is left out.
    pub(super) fn all(&self) -> Vec<Inflight> {
        self.0
            .iter()
            .filter_map(Result::ok)
            .map(|(_, entry)| entry.0)
            .collect()
    }

    /// Makes an entry if its thread has none yet.
    pub(super) fn insert(&mut self, entry: Inflight) -> Result<Inserted, Error> {
        let inserted = self.0.insert(entry.tid, Plain(entry), BPF_NOEXIST);
        insertion(inserted).map_err(|error| refused(Self::NAME, &error))
    }

    /// Whether there was such an entry.
    pub(super) fn remove(&mut self, tid: u32) -> bool {
        self.0.remove(&tid).is_ok()
    }
}

pub(super) struct StackMap(HashMap<MapData, u64, Plain<StackValue>>);

impl StackMap {
    const NAME: &'static str = "STACKS";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        HashMap::try_from(take(ebpf, Self::NAME)?)
            .map(Self)
            .map_err(|error| refused(Self::NAME, &error))
    }

    pub(super) fn get(&self, id: u64) -> Option<RawStack> {
        let Plain(value) = self.0.get(&id, 0).ok()?;
        let len = usize::try_from(value.len).unwrap_or(0).min(MAX_FRAMES);
        let frames = value.frames.get(..len)?.to_vec();
        Some(RawStack {
            frames,
            tgid: value.tgid,
            truncated: len >= MAX_FRAMES,
            top: 0,
        })
    }

    pub(super) fn remove(&mut self, id: u64) {
        // It may be gone already.
        let _ = self.0.remove(&id);
    }

    /// Removes the user stacks of processes that are not wanted any more; how many.
    pub(super) fn sweep(&mut self, wanted: impl Fn(u32) -> bool) -> usize {
        // An entry that goes meanwhile ends the iteration early, which only leaves some for later.
        let entries = self.0.iter().filter_map(Result::ok);
        let ids = unwanted(entries.map(|(id, Plain(value))| (id, value.tgid)), wanted);
        for id in &ids {
            self.remove(*id);
        }
        ids.len()
    }
}

/// The stacks of processes that are not wanted any more; asks once for each process.
fn unwanted(stacks: impl Iterator<Item = (u64, u32)>, wanted: impl Fn(u32) -> bool) -> Vec<u64> {
    let mut asked = BTreeMap::new();
    let is_unwanted = |(_, tgid): &(u64, u32)| {
        *tgid != 0 && !*asked.entry(*tgid).or_insert_with(|| wanted(*tgid))
    };
    stacks.filter(is_unwanted).map(|(id, _)| id).collect()
}

pub(super) struct CounterMap(PerCpuArray<MapData, u64>);

impl CounterMap {
    const NAME: &'static str = "COUNTERS";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        PerCpuArray::try_from(take(ebpf, Self::NAME)?)
            .map(Self)
            .map_err(|error| refused(Self::NAME, &error))
    }

    pub(super) fn read(&self) -> Result<Counters, Error> {
        let mut sums = Counters::default();
        for (index, sum) in (0..counter::COUNT).zip(&mut sums.0) {
            let values = self
                .0
                .get(&index, 0)
                .map_err(|error| refused(Self::NAME, &error))?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }
}

/// The number of entries of map `INFLIGHT`, in memory shared with the programs.
pub(super) struct CountMap {
    word: *const AtomicU64,
    _map: MapData,
}

// SAFETY: the pointer is to memory mapped for as long as the value lives, and is only used
// atomically.
unsafe impl Send for CountMap {}

impl CountMap {
    const NAME: &'static str = "INFLIGHT_COUNT";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let Map::Array(map) = take(ebpf, Self::NAME)? else {
            return Err(Error::Map {
                name: Self::NAME,
                reason: "is no array".to_owned(),
            });
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: maps a fresh page of a map made with BPF_F_MMAPABLE; nothing is overwritten.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPED_BYTES,
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(refused(Self::NAME, &std::io::Error::last_os_error()));
        }
        Ok(Self {
            word: page.cast(),
            _map: map,
        })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: page-aligned, mapped until drop, and the programs change it atomically too.
        unsafe { &*self.word }
    }

    pub(super) fn get(&self) -> u64 {
        self.word().load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self) {
        self.word().fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subtract_one(&self) {
        self.word().fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for CountMap {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `take`, not used again.
        unsafe { libc::munmap(self.word.cast_mut().cast(), MAPPED_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn stacks_are_swept_and_each_process_is_asked_about_once() {
        let asked = RefCell::new(Vec::new());
        let wanted = |tgid| {
            asked.borrow_mut().push(tgid);
            tgid == 2
        };
        // Of the kernel, of one that has ended, and of one that has not.
        let stacks = [(10, 0), (11, 1), (12, 2), (13, 1), (14, 2)];
        assert_eq!(unwanted(stacks.into_iter(), wanted), [11, 13]);
        assert_eq!(*asked.borrow(), [1, 2]);
    }

    #[test]
    fn an_entry_that_is_there_is_not_a_map_that_is_full() {
        let refusal = |number| {
            Err(MapError::from(SyscallError {
                call: "bpf_map_update_elem",
                io_error: io::Error::from_raw_os_error(number),
            }))
        };
        assert_eq!(insertion(Ok(())).ok(), Some(Inserted::Done));
        let known = insertion(refusal(libc::EEXIST));
        assert_eq!(known.ok(), Some(Inserted::Known));
        let full = insertion(refusal(libc::E2BIG));
        assert_eq!(full.ok(), Some(Inserted::NoRoom));
        assert!(insertion(refusal(libc::EPERM)).is_err());
    }
}
