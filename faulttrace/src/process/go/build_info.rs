//! What the Go linker says of a program: `.go.buildinfo` (debug/buildinfo of Go's standard library).

use super::image::Image;

/// With what the section begins.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Bytes of the header; the strings follow, since Go 1.18.
const HEADER: usize = 32;
/// The strings follow the header, and are not behind pointers (before Go 1.18).
const INLINE: u8 = 2;
/// Longer ones are none.
pub(super) const MAX_VERSION: usize = 256;
/// As many bytes before and behind the text of the modules mark it (cmd/go/internal/modload).
const MARK: usize = 16;
/// Longer lines with the path of a module are none.
pub(super) const MAX_MODULE: usize = 4096;

/// The version as it is written, `go1.27.3`; `None` if there is none, or one in the form of before
/// Go 1.18.
pub(super) fn version(image: &Image<'_>) -> Option<String> {
    let (version, _) = string(strings(image)?)?;
    if version.len() > MAX_VERSION {
        return None;
    }
    std::str::from_utf8(version).ok().map(str::to_owned)
}

/// The path of the main module, `github.com/prometheus/prometheus`; of the main package where that is of
/// no module.
pub(super) fn module(image: &Image<'_>) -> Option<String> {
    let (_, rest) = string(strings(image)?)?;
    let (text, _) = string(rest)?;
    module_of(text)
}

/// The same from the text of the modules.
fn module_of(text: &[u8]) -> Option<String> {
    let text = text.get(MARK..text.len().checked_sub(MARK)?)?;
    let path = |key: &[u8]| {
        let mut lines = text.split(|byte| *byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(b"\t"))?;
        let path = line.split(|byte| *byte == b'\t').next()?;
        let path = std::str::from_utf8(path).ok()?;
        let is_one = !path.is_empty() && path.len() <= MAX_MODULE;
        is_one.then(|| path.to_owned())
    };
    path(b"mod").or_else(|| path(b"path"))
}

/// The strings: that of the version, and that of the modules.
fn strings<'d>(image: &Image<'d>) -> Option<&'d [u8]> {
    let bytes = image.section(&[".go.buildinfo"])?.bytes;
    let flags = *bytes.strip_prefix(MAGIC)?.get(1)?;
    if flags & INLINE == 0 {
        return None;
    }
    bytes.get(HEADER..)
}

/// A string behind its length, and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// The numbers of a version: `go1.27.3`, `go1.27rc1`, `go1.27-custom`, `devel go1.27-4fe1…`.
pub(in crate::process) fn numbers(version: &str) -> Option<(u32, u32)> {
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
    fn the_module_is_the_main_one() {
        let marked = |text: &str| [&[0; MARK], text.as_bytes(), &[0; MARK]].concat();
        let of = |text: &str| module_of(&marked(text));
        let all = "path\ta.b/c/cmd/d\nmod\ta.b/c\tv1.2.3\th1:x=\ndep\te.f/g\tv1\n";
        assert_eq!(of(all).as_deref(), Some("a.b/c"));
        let alone = "path\tcommand-line-arguments\ndep\te.f/g\tv1\n";
        assert_eq!(of(alone).as_deref(), Some("command-line-arguments"));
        for none in ["", "mod", "mod\t", "mod\t\tv1", "\n\n", "modern\tx"] {
            assert_eq!(of(none), None, "{none:?}");
        }
        assert_eq!(of(&format!("mod\t{}", "x".repeat(MAX_MODULE + 1))), None);
        assert_eq!(module_of(&[0; MARK]), None);
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
