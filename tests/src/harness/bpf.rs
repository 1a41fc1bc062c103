//! What a process has in the kernel, and whether it is gone: asked of the kernel by id, because
//! other tracers may run on the machine.

use std::collections::BTreeSet;
use std::fs;

use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};

/// Ids of the programs, links and maps that a process holds; none is ever used again.
#[derive(Debug, Default)]
pub struct Objects {
    pub programs: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
}

impl Objects {
    /// Those of a process, as its descriptors tell.
    pub fn of(pid: u32) -> Objects {
        let mut objects = Objects::default();
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process lives");
        for entry in entries.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let id = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key))?;
                line.trim().parse::<u32>().ok()
            };
            // A link's has the id of its program as well.
            objects.links.extend(id("link_id:"));
            objects.programs.extend(id("prog_id:"));
            objects.maps.extend(id("map_id:"));
        }
        objects
    }

    /// Those that the kernel still has.
    pub fn left(&self) -> Objects {
        let programs = loaded_programs().flatten().map(|program| program.id());
        let links = loaded_links().flatten().map(|link| link.id());
        let maps = loaded_maps().flatten().map(|map| map.id());
        Objects {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.links.is_empty() && self.maps.is_empty()
    }
}
