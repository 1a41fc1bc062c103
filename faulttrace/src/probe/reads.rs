//! What has been read so far for faults that go on (`--io`).

use aya::maps::{HashMap, MapData};
use aya::{Ebpf, Pod};
use faulttrace_ebpf::{FaultIo, Inflight, IoEvent, flag, tells_held};

use super::maps::{self, Plain};
use super::{Error, Probe};

// SAFETY: repr(C) integers without padding; every bit pattern is a value.
unsafe impl Pod for Plain<FaultIo> {}

/// The map, which the programs fill with `--io` alone.
pub(super) struct Reads(HashMap<MapData, u32, Plain<FaultIo>>);

impl Reads {
    const NAME: &'static str = "FAULT_IO";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        HashMap::try_from(maps::take(ebpf, Self::NAME)?)
            .map(Self)
            .map_err(|error| maps::refused(Self::NAME, &error))
    }
}

impl Probe {
    /// What devices have done until now for the fault of this entry, whose thread is asleep; `None` if it began
    /// no read, or without `--io`. As the programs' `io::send`, but for a read that is held back still.
    pub fn reads_of(&self, entry: &Inflight, now_ns: u64) -> Option<IoEvent> {
        if !self.settings.io {
            return None;
        }
        let fault = if self.settings.light {
            u64::from(entry.completed)
        } else {
            entry.start_ns
        };
        let Plain(reads) = self.reads.0.get(&entry.tid, 0).ok()?;
        let is_its = reads.fault == fault && fault != 0;
        let pages = self
            .types
            .block
            .is_ok_and(|types| types.bio_pages.is_some());
        let held_told = pages && tells_held(entry.flags);
        let mut event = is_its.then(|| reads.event(entry.tid, entry.start_ns, held_told))?;
        // If another was handed on, which of them it waits for is not known.
        if pages && entry.flags & flag::HELD_BACK != 0 && reads.asked_bytes == 0 {
            let present_ns = now_ns.saturating_sub(entry.out_ns);
            event.held_ns = reads.held_ns.saturating_add(present_ns);
        }
        Some(event)
    }
}
