//! How single values are written.

use serde::{Serialize, Serializer};

use crate::model::Name;
use crate::view::escape::Escaped;

/// A number as `"0x…"`: addresses and ids do not fit into the doubles that many readers of JSON
/// have for numbers.
#[derive(Debug, Clone, Copy)]
pub(in crate::view) struct Hex(pub(in crate::view) u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Bytes as two hexadecimal digits each.
#[derive(Debug, Clone, Copy)]
pub(super) struct HexBytes<'a>(pub(super) &'a [u8]);

impl Serialize for HexBytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&digits)
    }
}

/// A name that may be unknown.
pub(in crate::view) fn escaped(name: Option<&Name>) -> Option<Escaped<'_>> {
    name.map(|name| Escaped(name.as_bytes()))
}

/// A part of a whole, from 0 to 1; `None` if there is no whole.
#[expect(clippy::cast_precision_loss, reason = "a share has no 16 digits")]
pub(in crate::view) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
