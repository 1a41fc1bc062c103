//! Tells the programs which processes are Go's, and where their runtime keeps things.

use std::collections::HashSet;

use aya::maps::{Array, HashMap, MapData};
use aya::{Ebpf, Pod};
use faulttrace_ebpf::goroutine::{GoLayout, Labels};

use super::maps::{self, Plain};
use super::{Error, Probe};

// SAFETY: repr(C) integers without padding; every bit pattern is a value.
unsafe impl Pod for Plain<GoLayout> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Labels> {}

/// The maps.
pub(super) struct GoMaps {
    layouts: HashMap<MapData, u32, Plain<GoLayout>>,
    labels: HashMap<MapData, u64, Plain<Labels>>,
    count: Array<MapData, u64>,
    entered: HashSet<u32>,
}

impl GoMaps {
    const LAYOUTS: &'static str = "GO";
    const COUNT: &'static str = "GO_COUNT";
    const LABELS: &'static str = "LABELS";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let layouts = HashMap::try_from(maps::take(ebpf, Self::LAYOUTS)?)
            .map_err(|error| maps::refused(Self::LAYOUTS, &error))?;
        let labels = HashMap::try_from(maps::take(ebpf, Self::LABELS)?)
            .map_err(|error| maps::refused(Self::LABELS, &error))?;
        let count = Array::try_from(maps::take(ebpf, Self::COUNT)?)
            .map_err(|error| maps::refused(Self::COUNT, &error))?;
        Ok(Self {
            layouts,
            labels,
            count,
            entered: HashSet::new(),
        })
    }

    fn set_count(&mut self) -> Result<(), Error> {
        self.count
            .set(0, self.entered.len() as u64, 0)
            .map_err(|error| maps::refused(Self::COUNT, &error))
    }
}

impl Probe {
    /// From now on, what threads of this process are at is read in their faults.
    pub fn add_go(&mut self, tgid: u32, layout: GoLayout) -> Result<(), Error> {
        let maps = &mut self.go;
        maps.layouts
            .insert(tgid, Plain(layout), 0)
            .map_err(|error| maps::refused(GoMaps::LAYOUTS, &error))?;
        maps.entered.insert(tgid);
        maps.set_count()
    }

    /// The labels of a goroutine by their id; `None` if they were not recorded.
    pub fn go_labels(&self, id: u64) -> Option<Labels> {
        let Plain(labels) = self.go.labels.get(&id, 0).ok()?;
        Some(labels)
    }

    /// The process has ended or replaced its program.
    pub fn remove_go(&mut self, tgid: u32) -> Result<(), Error> {
        let maps = &mut self.go;
        // The programs have already removed it, unless it was entered after that.
        let _ = maps.layouts.remove(&tgid);
        maps.entered.remove(&tgid);
        maps.set_count()
    }
}
