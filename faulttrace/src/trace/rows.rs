//! How values stand in rows: what writer and reader must agree on.

use rusqlite::types::ValueRef;

/// Bytes that the target chose: text if they are text, else as they are.
pub(super) fn text(bytes: &[u8]) -> ValueRef<'_> {
    // SQLite's own functions take a NUL for the end of a text.
    if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() {
        ValueRef::Blob(bytes)
    } else {
        ValueRef::Text(bytes)
    }
}

/// A time, counted from the base.
pub(super) fn relative(unix_ns: u64, base_ns: u64) -> i64 {
    unix_ns.wrapping_sub(base_ns).cast_signed()
}

/// The time again.
pub(super) fn absolute(relative_ns: i64, base_ns: u64) -> u64 {
    base_ns.wrapping_add(relative_ns.cast_unsigned())
}

/// What is known of the place of faults; `sites.at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// Address and offset. The difference is the same for all faults on one mapping.
    Both {
        /// The address of the byte that is at offset 0.
        base: u64,
    },
    /// The address alone.
    Address,
    /// The offset alone.
    Offset,
    /// Nothing.
    Nowhere,
}

impl At {
    /// The part that faults share, and the number that each has of its own. Offsets are those of
    /// pages, so the byte in the page fits below.
    pub(super) fn split(
        address: Option<u64>,
        offset: Option<u64>,
        page_bytes: u64,
    ) -> (At, Option<i64>) {
        let in_page = page_bytes.wrapping_sub(1);
        match (address, offset) {
            (Some(address), Some(offset)) => {
                let at = offset.wrapping_add(address & in_page);
                let base = address.wrapping_sub(at);
                (At::Both { base }, Some(at.cast_signed()))
            }
            (Some(address), None) => (At::Address, Some(address.cast_signed())),
            (None, Some(offset)) => (At::Offset, Some(offset.cast_signed())),
            (None, None) => (At::Nowhere, None),
        }
    }

    /// Address and offset again.
    pub(super) fn join(self, at: Option<i64>, page_bytes: u64) -> (Option<u64>, Option<u64>) {
        let Some(at) = at.map(i64::cast_unsigned) else {
            return (None, None);
        };
        let in_page = page_bytes.wrapping_sub(1);
        match self {
            At::Both { base } => (Some(base.wrapping_add(at)), Some(at & !in_page)),
            At::Address => (Some(at), None),
            At::Offset => (None, Some(at & !in_page)),
            At::Nowhere => (None, None),
        }
    }

    /// The name and base in the table.
    pub(super) fn columns(self) -> (Option<&'static str>, Option<i64>) {
        match self {
            At::Both { base } => (Some("both"), Some(base.cast_signed())),
            At::Address => (Some("address"), None),
            At::Offset => (Some("offset"), None),
            At::Nowhere => (None, None),
        }
    }

    /// From the table; `None` if it makes no sense.
    pub(super) fn from_columns(name: Option<&str>, base: Option<i64>) -> Option<At> {
        match (name, base) {
            (Some("both"), Some(base)) => Some(At::Both {
                base: base.cast_unsigned(),
            }),
            (Some("address"), _) => Some(At::Address),
            (Some("offset"), _) => Some(At::Offset),
            (None, _) => Some(At::Nowhere),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let page = 4096;
        for (address, offset) in [
            (Some(0x7f12_3456_7abc), Some(0x3f000)),
            (Some(0x10), Some(!0xfff)),
            (Some(u64::MAX), Some(0)),
            (Some(0xffff_ffff_8100_0123), None),
            (None, Some(0x1000)),
            (None, None),
        ] {
            let (shared, own) = At::split(address, offset, page);
            assert_eq!(shared.join(own, page), (address, offset));
            let (name, base) = shared.columns();
            assert_eq!(At::from_columns(name, base), Some(shared));
        }
        let one = At::split(Some(0x7000_1008), Some(0x1000), page).0;
        let other = At::split(Some(0x7000_9fff), Some(0x9000), page).0;
        assert_eq!(one, other, "one mapping, one site");
    }

    #[test]
    fn only_text_is_text() {
        assert!(matches!(text("größe".as_bytes()), ValueRef::Text(_)));
        assert!(matches!(text(b"a\xff"), ValueRef::Blob(_)));
        assert!(matches!(text(b"a\0b"), ValueRef::Blob(_)));
    }

    #[test]
    fn times_come_back() {
        for time in [0, 5, u64::MAX, 1_752_242_587_123_000_000] {
            assert_eq!(
                absolute(
                    relative(time, 1_752_000_000_000_000_000),
                    1_752_000_000_000_000_000
                ),
                time
            );
        }
    }
}
