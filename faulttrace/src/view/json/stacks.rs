//! Stacks as JSON, each turned into text once: most faults repeat the same few.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::scalar::{Hex, HexBytes, escaped};
use crate::model::{Frame, Stack};
use crate::view::escape::Escaped;

/// Stacks remembered; when there are more, all are forgotten.
const MAX_STACKS: usize = 4096;
/// Bytes of JSON remembered. Symbols are the target's to choose, so the number alone is no bound.
const MAX_BYTES: usize = 16 << 20;

/// The JSON of stacks seen lately.
#[derive(Debug, Default)]
pub(in crate::view) struct StackCache {
    /// By the address of the stack, which is its own as long as the entry holds it.
    known: HashMap<usize, Known>,
    bytes: usize,
}

/// An array of frames, serialized and shared.
#[derive(Debug, Clone)]
pub(in crate::view) struct StackJson(Arc<RawValue>);

impl Serialize for StackJson {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

#[derive(Debug)]
struct Known {
    json: StackJson,
    /// Keeps the address from being used for another stack.
    _stack: Arc<Stack>,
}

impl StackCache {
    /// The array of frames; `None` if it could not be serialized, which cannot happen.
    pub(in crate::view) fn json(&mut self, stack: &Arc<Stack>) -> Option<StackJson> {
        let address = Arc::as_ptr(stack).addr();
        if let Some(known) = self.known.get(&address) {
            return Some(known.json.clone());
        }
        let json = to_raw_value(&Frames(&stack.frames)).ok()?;
        let size = json.get().len();
        let json = StackJson(Arc::from(json));
        if self.known.len() >= MAX_STACKS || self.bytes.saturating_add(size) > MAX_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += size;
        let known = Known {
            json: json.clone(),
            _stack: Arc::clone(stack),
        };
        self.known.insert(address, known);
        Some(json)
    }

    #[cfg(test)]
    pub(in crate::view) fn len(&self) -> usize {
        self.known.len()
    }
}

struct Frames<'a>(&'a [Frame]);

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(FrameLine::new))
    }
}

#[derive(Serialize)]
struct FrameLine<'a> {
    address: Hex,
    function: Option<Escaped<'a>>,
    offset: Option<u64>,
    module: Option<Escaped<'a>>,
    module_offset: Option<u64>,
    build_id: Option<HexBytes<'a>>,
    file: Option<Escaped<'a>>,
    line: Option<u32>,
    inlined: bool,
}

impl<'a> FrameLine<'a> {
    fn new(frame: &'a Frame) -> Self {
        FrameLine {
            address: Hex(frame.address),
            function: escaped(frame.function.as_ref()),
            offset: frame.offset,
            module: escaped(frame.module.as_ref()),
            module_offset: frame.module_offset,
            build_id: frame.build_id.as_ref().map(|id| HexBytes(id.as_bytes())),
            file: escaped(frame.file.as_ref()),
            line: frame.line,
            inlined: frame.inlined,
        }
    }
}
