//! What the fold counts for the sake of advice, beside the totals.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::goroutines::OfGo;
use super::holders::OfHolders;
use super::pages::Pages;
use super::reads::{Reads, Writes, is_read};
use super::settle::MAX_MEMBERS;
use crate::model::summary::{FileKey, Tally};
use crate::model::{Cause, Goroutine, MappingKind, Measure, Site};

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) files: usize,
    /// Processes whose memory is followed page by page.
    pub(super) memories: usize,
    pub(super) pages: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            files: 4_096,
            memories: 1_000,
            pages: 1 << 17,
        }
    }
}

/// Where the pages of a site's faults are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    number: u32,
    /// By offset in the file; else by address.
    by_offset: bool,
    started: bool,
}

/// What was counted of a file.
#[derive(Debug, Default)]
pub(super) struct OfFile {
    pub(super) space: u32,
    pub(super) reads: Reads,
    pub(super) writes: Writes,
    pub(super) fuse: Tally,
    pub(super) nfs: Tally,
    /// How long threads of Go programs held Ps in faults on it, ns.
    pub(super) held_ns: u64,
    /// Processes, up to a bound.
    pub(super) pids: BTreeSet<u32>,
}

/// Pids of one file that are remembered.
const MAX_PIDS: usize = 1_024;
const _: () = assert!(MAX_MEMBERS <= MAX_PIDS);

/// The counters.
#[derive(Debug)]
pub(crate) struct Gather {
    bounds: Bounds,
    pub(super) files: HashMap<FileKey, OfFile>,
    /// Spaces of the memory of processes.
    pub(super) memories: HashMap<u32, u32>,
    spaces: u32,
    pub(super) pages: Pages,
    /// Go programs, by process.
    pub(super) go: HashMap<u32, OfGo>,
    /// Who held the lock of the address space, by process that waited for it.
    pub(super) lock_holders: HashMap<u32, OfHolders>,
    /// Faults on files that found no room. How many files, would have to be remembered.
    pub(super) beyond: u64,
}

impl Gather {
    pub(crate) fn new() -> Self {
        Gather::with_bounds(Bounds::default())
    }

    pub(super) fn with_bounds(bounds: Bounds) -> Self {
        Gather {
            bounds,
            files: HashMap::new(),
            memories: HashMap::new(),
            spaces: 0,
            pages: Pages::new(bounds.pages),
            go: HashMap::new(),
            lock_holders: HashMap::new(),
            beyond: 0,
        }
    }

    /// Where the pages of a site's faults are followed; `None`: nowhere.
    pub(crate) fn space(&mut self, site: &Site) -> Option<Space> {
        let place = &site.facts.place;
        let started = site.major;
        if is_file(place.mapping) && place.path.is_some() {
            let file = self.file(site)?;
            let number = file.space;
            return (is_read(site.facts.cause) || started).then_some(Space {
                number,
                by_offset: true,
                started,
            });
        }
        let swapped = matches!(site.facts.cause, Some(Cause::SwapIn | Cause::Zswap));
        if !swapped {
            return None;
        }
        let full = self.memories.len() >= self.bounds.memories;
        let number = match self.memories.entry(site.facts.pid) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if full => return None,
            Entry::Vacant(new) => *new.insert(next(&mut self.spaces)),
        };
        Some(Space {
            number,
            by_offset: false,
            started,
        })
    }

    /// A fault of a site, which ended before all faults so far (or nearly so).
    pub(crate) fn fault(
        &mut self,
        space: Option<Space>,
        site: &Site,
        measure: &Measure,
        page_bytes: u64,
    ) {
        if let Some(goroutine) = &measure.goroutine
            && goroutine.p.is_some()
        {
            self.held(site, goroutine, measure);
        }
        if let Some(space) = space {
            self.page(space, measure, page_bytes);
        }
        if site.facts.cause == Some(Cause::MmapLock) {
            self.waited_for_lock(site.facts.pid, measure);
        }
    }

    /// The same fault, if it waited for the lock of the address space.
    fn waited_for_lock(&mut self, pid: u32, measure: &Measure) {
        let known = &mut self.lock_holders;
        if known.len() < self.bounds.memories || known.contains_key(&pid) {
            known.entry(pid).or_default().fault(pid, measure);
        }
    }

    fn page(&mut self, space: Space, measure: &Measure, page_bytes: u64) {
        let at = match space.by_offset {
            true => measure.offset,
            false => measure.address,
        };
        if let Some(at) = at {
            let page = at / page_bytes.max(1);
            self.pages.fault(space.number, page, space.started, measure);
        }
    }

    /// The same fault, if its thread held a P of a Go program.
    fn held(&mut self, site: &Site, goroutine: &Goroutine, measure: &Measure) {
        let facts = &site.facts;
        if self.go.len() < self.bounds.memories || self.go.contains_key(&facts.pid) {
            let of = self.go.entry(facts.pid).or_default();
            of.fault(facts.user_stack.as_deref(), goroutine, measure);
        }
        if is_file(facts.place.mapping)
            && facts.place.path.is_some()
            && let Some(file) = self.file(site)
        {
            file.held_ns = file.held_ns.saturating_add(measure.duration_ns);
        }
    }

    /// Faults of a site that were added up.
    pub(crate) fn credit(&mut self, site: &Site, sum: &Tally) {
        let place = &site.facts.place;
        if sum.faults == 0 || !is_file(place.mapping) || place.path.is_none() {
            return;
        }
        let Some(file) = self.file(site) else {
            self.beyond = self.beyond.saturating_add(sum.faults);
            return;
        };
        file.reads.credit(site, sum);
        file.writes.credit(site, sum);
        match site.facts.cause {
            Some(Cause::Fuse) => file.fuse.merge(sum),
            Some(Cause::Nfs) => file.nfs.merge(sum),
            _ => {}
        }
        if sum.blocked_ns > 0 && file.pids.len() < MAX_PIDS {
            file.pids.insert(site.facts.pid);
        }
    }

    fn file(&mut self, site: &Site) -> Option<&mut OfFile> {
        let full = self.files.len() >= self.bounds.files;
        match self.files.entry(FileKey::of(&site.facts.place)) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(new) => Some(new.insert(OfFile {
                space: next(&mut self.spaces),
                ..OfFile::default()
            })),
        }
    }
}

/// A new number.
fn next(spaces: &mut u32) -> u32 {
    let number = *spaces;
    *spaces = spaces.saturating_add(1);
    number
}

/// Whether what is mapped there is a file, with pages in the page cache.
fn is_file(mapping: Option<MappingKind>) -> bool {
    matches!(mapping, Some(MappingKind::File | MappingKind::Exe))
}
