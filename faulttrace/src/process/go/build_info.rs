//! What the Go linker says of a program: `.go.buildinfo` (debug/buildinfo of Go's standard library).

use super::image::Image;

/// With what the section begins.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Bytes of the header; the strings follow, since Go 1.18.
const HEADER: usize = 32;
/// The strings follow the header, and are not behind pointers (before Go 1.18).
const INLINE: u8 = 2;
/// Longer ones are none.
const MAX_VERSION: usize = 256;

/// The version as it is written, `go1.27.3`; `None` if there is none, or one in the form of before
/// Go 1.18.
pub(super) fn version(image: &Image<'_>) -> Option<String> {
    let bytes = image.section(&[".go.buildinfo"])?.bytes;
    let flags = *bytes.strip_prefix(MAGIC)?.get(1)?;
    if flags & INLINE == 0 {
        return None;
    }
    let (length, rest) = varint(bytes.get(HEADER..)?)?;
    let length = usize::try_from(length)
        .ok()
        .filter(|one| *one <= MAX_VERSION)?;
    std::str::from_utf8(rest.get(..length)?)
        .ok()
        .map(str::to_owned)
}

/// The numbers of a version: `go1.27.3`, `go1.27rc1`, `go1.27-custom`, `devel go1.27-4fe1…`.
pub(super) fn numbers(version: &str) -> Option<(u32, u32)> {
    let (_, numbers) = version.split_once("go")?;
    let (major, rest) = numbers.split_once('.')?;
    let end = rest
        .find(|one: char| !one.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

/// An unsigned number as encoding/binary writes it, and what follows.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, shift) in (0..64).step_by(7).enumerate() {
        let byte = *bytes.get(index)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood() {
        for (text, expected) in [
            ("go1.27.3", Some((1, 27))),
            ("go1.19", Some((1, 19))),
            ("go1.27rc1", Some((1, 27))),
            ("devel go1.27-4fe1a2b Mon", Some((1, 27))),
            ("go1.24.4 X:nocoverageredesign", Some((1, 24))),
            ("gccgo", None),
            ("", None),
            ("go1.", None),
            ("go1.99999999999", None),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn a_number_ends_where_it_says() {
        assert_eq!(varint(&[5, 9]), Some((5, &[9][..])));
        assert_eq!(varint(&[0x80, 1]), Some((128, &[][..])));
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(varint(&[0xff; 20]), None);
        assert_eq!(varint(&[]), None);
    }
}
