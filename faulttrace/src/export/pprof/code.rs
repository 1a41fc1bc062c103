//! Frames as pprof wants them: strings, functions, mappings and locations, each once, by number.

use std::collections::HashMap;

use super::proto;
use crate::export::bounded::{Budget, Dictionary};
use crate::export::names::{self, CUT, MAX_FRAMES, NO_STACK};
use crate::model::summary::StackKey;
use crate::model::{Frame, Name, Stack};

/// What the samples refer to.
#[derive(Debug, Default)]
pub(super) struct Code {
    strings: Dictionary<Box<str>>,
    functions: Dictionary<Function>,
    mappings: Dictionary<Mapping>,
    /// What was seen of each mapping, by its number.
    seen: Vec<Seen>,
    locations: Dictionary<Location>,
    stacks: Dictionary<Vec<u32>>,
    known: HashMap<StackKey, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Function {
    name: u32,
    file: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mapping {
    path: u32,
    build_id: u32,
    /// Where offset 0 of the file would be; `None` if no offset is known.
    base: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    last_address: u64,
    functions: bool,
    files: bool,
    lines: bool,
    inlined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Location {
    address: u64,
    mapping: Option<u32>,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Line {
    function: u32,
    line: u32,
}

impl Code {
    /// The number of a text. 0 is the empty one.
    pub(super) fn string(&mut self, text: &str, budget: &mut Budget) -> Option<u32> {
        if self.strings.find("").is_none() {
            self.strings.id("", 0, budget)?;
        }
        self.strings.id(text, text.len(), budget)
    }

    /// The number of a stack; `None` if there is no room for it.
    pub(super) fn stack(
        &mut self,
        pid: u32,
        stack: Option<&Stack>,
        budget: &mut Budget,
    ) -> Option<u32> {
        let key = StackKey {
            pid,
            id: stack.map(|stack| stack.id),
        };
        if let Some(id) = self.known.get(&key) {
            return Some(*id);
        }
        if budget.is_full() {
            return None;
        }
        let locations = match stack {
            Some(stack) => self.locations(stack, budget)?,
            None => vec![self.named(NO_STACK, budget)?],
        };
        let bytes = 4 * locations.len() + size_of::<StackKey>();
        let id = self.stacks.id(&locations, bytes, budget)?;
        self.known.insert(key, id);
        Some(id)
    }

    /// A location that is only a name, of ours.
    pub(super) fn named(&mut self, name: &str, budget: &mut Budget) -> Option<u32> {
        let name = self.string(name, budget)?;
        let function = Function { name, file: 0 };
        let function = self
            .functions
            .id(&function, size_of::<Function>(), budget)?;
        let location = Location {
            address: 0,
            mapping: None,
            lines: vec![Line { function, line: 0 }],
        };
        self.locations.id(&location, size_of::<Location>(), budget)
    }

    /// A stack of that one location.
    pub(super) fn stack_of(&mut self, location: u32, budget: &mut Budget) -> Option<u32> {
        self.stacks.id(&vec![location], 4, budget)
    }

    fn locations(&mut self, stack: &Stack, budget: &mut Budget) -> Option<Vec<u32>> {
        let frames = &stack.frames[..stack.frames.len().min(MAX_FRAMES)];
        let mut locations = Vec::new();
        // Calls inlined at an address come before the function that is there.
        for group in frames.split_inclusive(|frame| !frame.inlined) {
            locations.push(self.location(group, budget)?);
        }
        if stack.truncated || frames.len() < stack.frames.len() {
            locations.push(self.named(CUT, budget)?);
        }
        if locations.is_empty() {
            locations.push(self.named(NO_STACK, budget)?);
        }
        Some(locations)
    }

    fn location(&mut self, group: &[Frame], budget: &mut Budget) -> Option<u32> {
        let physical = group.last()?;
        let mapping = match &physical.module {
            Some(module) => Some(self.mapping(physical, module, budget)?),
            None => None,
        };
        let mut lines = Vec::new();
        for frame in group {
            // Where the function is not known there is none: pprof shows address and module.
            if let Some(name) = names::known_function(frame) {
                lines.push(self.line(frame, &name, budget)?);
            }
        }
        if let Some(seen) = mapping.and_then(|id| self.seen.get_mut(usize::try_from(id).ok()?)) {
            seen.last_address = seen.last_address.max(physical.address);
            seen.functions |= !lines.is_empty();
            seen.files |= group.iter().any(|frame| frame.file.is_some());
            seen.lines |= group.iter().any(|frame| frame.line.is_some());
            seen.inlined |= group.iter().any(|frame| frame.inlined);
        }
        let location = Location {
            address: physical.address,
            mapping,
            lines,
        };
        let bytes = size_of::<Location>() + location.lines.len() * size_of::<Line>();
        self.locations.id(&location, bytes, budget)
    }

    fn line(&mut self, frame: &Frame, name: &str, budget: &mut Budget) -> Option<Line> {
        let file = frame.file.as_ref().map(names::path).unwrap_or_default();
        let function = Function {
            name: self.string(name, budget)?,
            file: self.string(&file, budget)?,
        };
        Some(Line {
            function: self
                .functions
                .id(&function, size_of::<Function>(), budget)?,
            line: frame.line.unwrap_or(0),
        })
    }

    fn mapping(&mut self, frame: &Frame, module: &Name, budget: &mut Budget) -> Option<u32> {
        let build_id = frame.build_id.as_ref().map(hex).unwrap_or_default();
        let mapping = Mapping {
            path: self.string(&names::path(module), budget)?,
            build_id: self.string(&build_id, budget)?,
            base: frame
                .module_offset
                .and_then(|offset| frame.address.checked_sub(offset)),
        };
        let id = self.mappings.id(&mapping, size_of::<Mapping>(), budget)?;
        let count = usize::try_from(id).ok()?.checked_add(1)?;
        if self.seen.len() < count {
            self.seen.resize(count, Seen::default());
        }
        Some(id)
    }

    /// The locations of a stack, innermost first.
    pub(super) fn location_ids(&self, stack: u32) -> Vec<u64> {
        let locations = self.stacks.get(stack).into_iter().flatten();
        locations.map(|id| number(*id)).collect()
    }

    /// The mappings, those of `main` first: pprof takes the first for the program.
    pub(super) fn mappings(&self, main: &str) -> Vec<proto::Mapping> {
        let main = self.strings.find(main);
        let both = (0..).zip(self.mappings.iter().zip(&self.seen));
        let mut mappings: Vec<_> = both
            .map(|(id, (mapping, seen))| mapping_of(id, mapping, seen))
            .collect();
        mappings.sort_by_key(|mapping| Some(mapping.filename) != main.map(i64::from));
        mappings
    }

    /// The locations, in order of their ids.
    pub(super) fn all_locations(&self) -> impl Iterator<Item = proto::Location> {
        (0..).zip(self.locations.iter()).map(|(id, location)| {
            let lines = location.lines.iter().map(|line| proto::Line {
                function_id: number(line.function),
                line: i64::from(line.line),
            });
            proto::Location {
                id: number(id),
                mapping_id: location.mapping.map_or(0, number),
                address: location.address,
                line: lines.collect(),
            }
        })
    }

    /// The functions, in order of their ids.
    pub(super) fn all_functions(&self) -> impl Iterator<Item = proto::Function> {
        (0..)
            .zip(self.functions.iter())
            .map(|(id, function)| proto::Function {
                id: number(id),
                name: i64::from(function.name),
                // Not kept; and pprof cuts down names that are the same in both.
                system_name: 0,
                filename: i64::from(function.file),
            })
    }

    /// The strings, in order of their indices.
    pub(super) fn all_strings(&self) -> impl Iterator<Item = &str> {
        self.strings.iter().map(AsRef::as_ref)
    }
}

/// pprof's ids begin at 1.
fn number(id: u32) -> u64 {
    u64::from(id) + 1
}

/// Whole pages, as mappings are.
const PAGE: u64 = 4096;

fn mapping_of(id: u32, mapping: &Mapping, seen: &Seen) -> proto::Mapping {
    let limit = seen
        .last_address
        .saturating_add(1)
        .checked_next_multiple_of(PAGE);
    proto::Mapping {
        id: number(id),
        memory_start: mapping.base.unwrap_or(0),
        // Up to what was seen of it: where it really ended is not known.
        memory_limit: mapping.base.map_or(0, |_| limit.unwrap_or(u64::MAX)),
        file_offset: 0,
        filename: i64::from(mapping.path),
        build_id: i64::from(mapping.build_id),
        has_functions: seen.functions,
        has_filenames: seen.files,
        has_line_numbers: seen.lines,
        has_inline_frames: seen.inlined,
    }
}

/// Longest build id, bytes: SHA-512 would have 64.
const MAX_BUILD_ID: usize = 64;

fn hex(build_id: &Name) -> String {
    let bytes = build_id.as_bytes().iter().take(MAX_BUILD_ID);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
