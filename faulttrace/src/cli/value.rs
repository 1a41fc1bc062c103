//! Times and sizes as people write them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

/// A time such as `250us`, `10ms`, `2s`, `5m`; 0 is allowed.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let example = "write it like 250us, 10ms, 2s or 5m";
    let parsed: SignedDuration = text.parse().map_err(|_| format!("not a time; {example}"))?;
    Duration::try_from(parsed).map_err(|_| format!("a time cannot be negative; {example}"))
}

/// As [`duration`], but more than 0.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        time => Ok(time),
    }
}

const SMALLEST: u64 = 4 << 10;
const LARGEST: u64 = 1 << 30;

/// A number of bytes such as `65536`, `64K`, `16M`, rounded up to a power of two, as the kernel's
/// ring buffer needs it (a page at least).
pub(super) fn bytes(text: &str) -> Result<u32, String> {
    let size = number_of_bytes(text)?.filter(|size| (SMALLEST..=LARGEST).contains(size));
    size.and_then(|size| u32::try_from(size.next_power_of_two()).ok())
        .ok_or_else(|| "it must be between 4K and 1G".to_owned())
}

/// The least that a saved trace can be bounded to: names and stacks take room too.
const SMALLEST_FILE: u64 = 1 << 20;

/// The size of a file: a number of bytes of 1M at least.
pub(super) fn file_bytes(text: &str) -> Result<u64, String> {
    number_of_bytes(text)?
        .filter(|size| (SMALLEST_FILE..=i64::MAX.unsigned_abs()).contains(size))
        .ok_or_else(|| "it must be 1M at least".to_owned())
}

/// `None` if it is too large to be told.
fn number_of_bytes(text: &str) -> Result<Option<u64>, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a size; write it like 64K or 16M".to_owned())?;
    Ok(number.checked_mul(1 << shift))
}

/// The file of a trace. `-` is not one: a database cannot be written to standard output.
pub(super) fn trace_file(text: OsString) -> Result<PathBuf, String> {
    if text == "-" {
        let why = "a trace is written to a file, not to standard output; for a file of this name, write ./-";
        return Err(why.to_owned());
    }
    Ok(text.into())
}

/// How many times as fast.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches(['x', '×']).parse::<f64>() {
        Ok(factor) if (0.001..=1e6).contains(&factor) => Ok(factor),
        _ => Err("it must be a number between 0.001 and 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ns) in [
            ("250us", 250_000),
            ("10ms", 10_000_000),
            ("2s", 2_000_000_000),
            ("5m", 300_000_000_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text).map(|time| time.as_nanos()), Ok(ns), "{text}");
        }
        for text in ["", "10", "ten", "-1s", "1ms ago", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn speeds_and_sizes_of_files_are_read() {
        assert_eq!(speed("10x"), Ok(10.0));
        assert_eq!(speed("0.5"), Ok(0.5));
        for text in ["0", "-1", "nan", "inf", "fast", ""] {
            assert!(speed(text).is_err(), "{text}");
        }
        assert_eq!(file_bytes("2G"), Ok(2 << 30));
        assert_eq!(file_bytes("1500000"), Ok(1_500_000));
        for text in ["1K", "0", "99999999999G"] {
            assert!(file_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_rounded_up() {
        for (text, size) in [
            ("4096", 4096),
            ("64K", 65536),
            ("16m", 16 << 20),
            ("1G", 1 << 30),
            ("5000", 8192),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "K",
            "1",
            "0",
            "2G",
            "-4K",
            "4KB",
            "99999999999999999999",
            "18446744073709551615G",
            "é",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
