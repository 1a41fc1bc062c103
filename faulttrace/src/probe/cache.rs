//! The page cache as the programs see it (`--evictions`): who fills it, and whose pages are watched.

use aya::maps::{HashMap, MapData, PerCpuArray, PerCpuHashMap};
use aya::{Ebpf, EbpfLoader, Pod};
use faulttrace_ebpf::{COMM_LEN, FileKey, FileWatch, Fill, cache_total};

use super::jobs::FILE_FAULT;
use super::maps::{BPF_NOEXIST, Plain, refused, take};
use super::{Error, KernelTypes, Need};

/// How many pages the programs remember before they may forget some.
pub(super) const PAGES_KEPT: u32 = PAGES_ROOM - PAGES_ROOM / 8;
/// How many entries map `PAGES` has: the pages of 1 GiB, in 47 MiB. An LRU map may forget entries a
/// little before it is full (kernel/bpf/bpf_lru_list.c).
const PAGES_ROOM: u32 = 262_144;
/// What is of use with `--evictions` alone.
const MAPS: [&str; 4] = ["PAGES", "FILES", "FILLS", "AGES"];

/// Keeps the maps small that are not wanted.
pub(super) fn size(loader: &mut EbpfLoader<'_>, wanted: bool) {
    if wanted {
        loader.map_max_entries("PAGES", PAGES_ROOM);
        return;
    }
    for name in MAPS {
        loader.map_max_entries(name, 1);
    }
}

/// What of the kernel `--evictions` lacks; `None` if it has all.
pub fn evictions_lack(types: &KernelTypes) -> Option<String> {
    let missing = match types.has_tracepoint(FILE_FAULT) {
        false => Some(FILE_FAULT),
        true => types.missing(Need::Evictions),
    };
    let tracepoint = missing.map(|name| format!("the tracepoint filemap:{name}"));
    let folio = || {
        types
            .folio
            .is_none()
            .then(|| "struct folio as it is known".to_owned())
    };
    tracepoint.or_else(folio)
}

// SAFETY: repr(C) integers without padding; every bit pattern is a value.
unsafe impl Pod for Plain<FileKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Fill> {}
// SAFETY: as above.
unsafe impl Pod for Plain<FileWatch> {}

/// The maps of `--evictions`.
pub struct PageCache {
    fills: PerCpuHashMap<MapData, u32, Plain<Fill>>,
    totals: PerCpuArray<MapData, u64>,
    files: HashMap<MapData, Plain<FileKey>, Plain<FileWatch>>,
}

/// Pages that came into the page cache and left it since the programs were attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheTotals {
    /// Added.
    pub added: u64,
    /// Removed, for whatever reason.
    pub removed: u64,
    /// Of these: by reclaim.
    pub reclaimed: u64,
}

/// Pages that one process added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillOf {
    /// Process id.
    pub tgid: u32,
    /// Pages since it was first seen to add some.
    pub pages: u64,
    /// Name of a thread of it.
    pub comm: [u8; COMM_LEN],
}

impl PageCache {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            fills: PerCpuHashMap::try_from(take(ebpf, "FILLS")?)
                .map_err(|error| refused("FILLS", &error))?,
            totals: PerCpuArray::try_from(take(ebpf, "CACHE_TOTALS")?)
                .map_err(|error| refused("CACHE_TOTALS", &error))?,
            files: HashMap::try_from(take(ebpf, "FILES")?)
                .map_err(|error| refused("FILES", &error))?,
        })
    }

    /// Watches the pages of a file from this moment on, or longer. `false` if there is no room.
    pub fn watch(&mut self, inode: u64, device: u32, now_ns: u64) -> bool {
        let key = FileKey::new(inode, device);
        let watch = FileWatch {
            since_ns: now_ns,
            ..FileWatch::default()
        };
        let watched = self.files.insert(Plain(key), Plain(watch), BPF_NOEXIST);
        // A program may have been first.
        watched.is_ok() || self.files.get(&Plain(key), 0).is_ok()
    }

    /// Files of which something was read ahead, with what became of it.
    pub fn read_ahead(&self) -> Result<Vec<(FileKey, FileWatch)>, Error> {
        let files = self.files.iter().filter_map(|entry| match entry {
            Ok((_, Plain(watch))) if watch.ahead == 0 => None,
            Ok((Plain(key), Plain(watch))) => Some(Ok((key, watch))),
            Err(error) => Some(Err(refused("FILES", &error))),
        });
        files.collect()
    }

    /// What came and went, on all CPUs together.
    pub fn totals(&self) -> Result<CacheTotals, Error> {
        let total = |index: u32| -> Result<u64, Error> {
            let values = self.totals.get(&index, 0);
            let values = values.map_err(|error| refused("CACHE_TOTALS", &error))?;
            Ok(values.iter().sum())
        };
        Ok(CacheTotals {
            added: total(cache_total::ADDED)?,
            removed: total(cache_total::REMOVED)?,
            reclaimed: total(cache_total::RECLAIMED)?,
        })
    }

    /// Who added how much. A process that is forgotten meanwhile, because others need its room, is left
    /// out.
    pub fn fills(&self) -> Vec<FillOf> {
        let sum = |(tgid, values): (u32, aya::maps::PerCpuValues<Plain<Fill>>)| {
            // A program names the value of its own CPU alone, where the process was first seen.
            let named = values.iter().find(|Plain(fill)| fill.comm[0] != 0);
            let named = named.or_else(|| values.iter().next())?;
            Some(FillOf {
                tgid,
                pages: values.iter().map(|Plain(fill)| fill.pages).sum(),
                comm: named.0.comm,
            })
        };
        let entries = self.fills.iter().filter_map(Result::ok);
        entries.filter_map(sum).collect()
    }
}
