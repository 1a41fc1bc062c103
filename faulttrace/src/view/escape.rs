//! Shows bytes that the target chose (thread names, paths, symbols) so that they can neither
//! forge output nor steer a terminal, and so that the bytes can be told from what is shown.
//!
//! One rule for text and JSON alike, reversible:
//!
//! - `\` is `\\`; newline, tab and carriage return are `\n`, `\t`, `\r`;
//! - other C0 control characters, DEL, and bytes that are not UTF-8 are `\xNN`, one per byte;
//! - C1 controls and characters that are invisible or change the direction of text are
//!   `\u{HEX}`;
//! - everything else is as it is.

use std::fmt::{self, Display, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use unicode_width::UnicodeWidthChar as _;

/// Bytes to be shown escaped, by `Display` or as a serde string.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// A path to be shown.
    pub fn path(path: &'a Path) -> Self {
        Escaped(path.as_os_str().as_bytes())
    }
}

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write_valid(chunk.valid(), out)?;
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl serde::Serialize for Escaped<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match clean(self.0) {
            Some(text) => to.serialize_str(text),
            None => to.collect_str(self),
        }
    }
}

/// The bytes as they are, if nothing in them needs escaping and they are ASCII: nearly always.
pub(super) fn clean(bytes: &[u8]) -> Option<&str> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
    if bytes.iter().all(plain) {
        std::str::from_utf8(bytes).ok()
    } else {
        None
    }
}

/// The escaped text of at most `max_bytes` of input (cut between characters, and then marked by
/// a trailing `…`), so that a hostile symbol of a megabyte stays a line.
pub fn escaped(bytes: &[u8], max_bytes: usize) -> String {
    if bytes.len() <= max_bytes {
        return Escaped(bytes).to_string();
    }
    let mut end = max_bytes;
    // A UTF-8 character is at most four bytes; do not cut one that is whole.
    while end > max_bytes.saturating_sub(3) && bytes.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
        end -= 1;
    }
    let mut text = Escaped(&bytes[..end]).to_string();
    text.push('…');
    text
}

fn write_valid(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for character in text.chars() {
        match character {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            '\r' => out.write_str("\\r")?,
            '\0'..='\x1f' | '\x7f' => write!(out, "\\x{:02x}", u32::from(character))?,
            character if deceives(character) => write!(out, "\\u{{{:x}}}", u32::from(character))?,
            character => out.write_char(character)?,
        }
    }
    Ok(())
}

/// C1 controls, and what Unicode calls format characters and separators: invisible, or they
/// reorder what stands around them.
fn deceives(character: char) -> bool {
    matches!(u32::from(character),
        0x80..=0x9f | 0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f
        | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb
        | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// Columns that text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().map(|c| c.width().unwrap_or(0)).sum()
    }
}

/// The longest beginning of `text` that fits into `columns`, with `…` for what was cut.
pub(super) fn fit_start(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let kept = text.chars().take_while(|c| take(*c, &mut left));
    let mut fitted: String = kept.collect();
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

/// The longest end of `text` that fits, with `…` before it: the end of a path tells most.
pub(super) fn fit_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let kept: Vec<char> = text
        .chars()
        .rev()
        .take_while(|c| take(*c, &mut left))
        .collect();
    let ellipsis = (columns > 0).then_some('…');
    ellipsis.into_iter().chain(kept.into_iter().rev()).collect()
}

fn take(character: char, left: &mut usize) -> bool {
    let width = character.width().unwrap_or(0);
    let fits = width <= *left;
    *left = left.saturating_sub(width);
    fits
}

#[cfg(test)]
mod tests {
    use super::{Escaped, escaped, fit_end, fit_start, width};

    fn show(bytes: &[u8]) -> String {
        Escaped(bytes).to_string()
    }

    /// The documented way back.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\\') {
            bytes.extend_from_slice(before.as_bytes());
            let (kind, tail) = after.split_at(1);
            rest = match kind {
                "n" => {
                    bytes.push(b'\n');
                    tail
                }
                "t" => {
                    bytes.push(b'\t');
                    tail
                }
                "r" => {
                    bytes.push(b'\r');
                    tail
                }
                "\\" => {
                    bytes.push(b'\\');
                    tail
                }
                "x" => {
                    bytes.push(u8::from_str_radix(&tail[..2], 16).unwrap());
                    &tail[2..]
                }
                "u" => {
                    let (hex, tail) = tail[1..].split_once('}').unwrap();
                    let character = char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap();
                    bytes.extend_from_slice(character.to_string().as_bytes());
                    tail
                }
                other => panic!("unknown escape {other}"),
            };
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }

    #[test]
    fn control_characters_and_their_disguises_are_shown() {
        assert_eq!(show(b"plain name"), "plain name");
        assert_eq!(show("größe 表".as_bytes()), "größe 表");
        assert_eq!(
            show(b"\x1b[2J\x07\n\t\r\0\x7f"),
            r"\x1b[2J\x07\n\t\r\x00\x7f"
        );
        assert_eq!(show("\u{9b}31m".as_bytes()), r"\u{9b}31m");
        assert_eq!(show("a\u{202e}b".as_bytes()), r"a\u{202e}b");
        assert_eq!(
            show("\u{2066}\u{2069}\u{200b}\u{feff}".as_bytes()),
            r"\u{2066}\u{2069}\u{200b}\u{feff}"
        );
        assert_eq!(
            show("\u{2028}\u{2029}\u{61c}".as_bytes()),
            r"\u{2028}\u{2029}\u{61c}"
        );
        assert_eq!(show(b"a\xff\xc3(\xe2\x82"), r"a\xff\xc3(\xe2\x82");
        assert_eq!(show(br"C:\n"), r"C:\\n");
    }

    #[test]
    fn escaping_can_be_undone() {
        let samples: &[&[u8]] = &[
            b"",
            b"plain",
            br"\n is not a newline",
            b"\n\\x41\\",
            b"\xff\xfe\x80 \x9b",
            "\u{9b}\u{202e}é表\\u{41}".as_bytes(),
        ];
        for sample in samples {
            assert_eq!(unescape(&show(sample)), *sample);
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&show(&all)), all);
        assert!(show(&all).chars().all(|c| !c.is_control()));
    }

    #[test]
    fn json_strings_are_the_same_text() {
        let json = serde_json::to_string(&Escaped(b"a\"b\x1b\xff")).unwrap();
        let back: String = serde_json::from_str(&json).unwrap();
        assert_eq!(back, show(b"a\"b\x1b\xff"));
    }

    #[test]
    fn length_is_bounded_between_characters() {
        assert_eq!(escaped(b"abcdef", 6), "abcdef");
        assert_eq!(escaped(b"abcdefg", 6), "abcdef…");
        assert_eq!(escaped("aaé".as_bytes(), 3), "aa…");
        // No lead byte within reach: bytes are shown as bytes.
        assert_eq!(escaped(&[0x80; 9], 2), "…");
        assert_eq!(escaped(&[0x80; 20], 9), format!("{}…", r"\x80".repeat(6)));
    }

    #[test]
    fn width_counts_columns() {
        assert_eq!(width("表a"), 3);
        assert_eq!(fit_start("表表表", 5), "表表…");
        assert_eq!(fit_end("/a/very/long", 6), "…/long");
        assert_eq!(fit_start("abc", 3), "abc");
        assert_eq!(fit_start("abc", 0), "");
        assert_eq!(fit_end("abcd", 1), "…");
    }
}
