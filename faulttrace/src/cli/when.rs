//! Moments of a trace as people name them.

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::value::duration;

/// A moment, as far as it can be told without the trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// So long after the trace began.
    After(Duration),
    /// At this Unix time, ns.
    At(u64),
    /// At this date and time of day where the user is.
    Local(DateTime),
    /// At this time of day where the user is: the first one that is not before the trace began.
    TimeOfDay(Time),
}

const EXAMPLES: &str = "write it like 30s or 5m (after the trace began), 14:03:07 (local time), \
                        2026-11-24T14:03:07 or 2026-11-24T13:03:07Z";

impl When {
    /// Reads a moment.
    pub fn parse(text: &str) -> Result<Self, String> {
        // With a colon it is a time of day, though it could be a duration.
        let relative = text.strip_prefix('+').unwrap_or(text);
        if !relative.contains(':')
            && let Ok(after) = duration(relative)
        {
            return Ok(When::After(after));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            let ns = u64::try_from(at.as_nanosecond());
            return ns.map(When::At).map_err(|_| EXAMPLES.to_owned());
        }
        if let Ok(time) = text.parse::<Time>()
            && text.contains(':')
            && !text.contains('-')
        {
            return Ok(When::TimeOfDay(time));
        }
        let local = text.parse::<DateTime>().map(When::Local);
        local.map_err(|_| format!("not a time; {EXAMPLES}"))
    }

    /// The moment as Unix time, ns, in a trace that began at `start_ns`.
    pub fn unix_ns(&self, start_ns: u64, zone: &TimeZone) -> Option<u64> {
        let of_local = |local: DateTime| {
            let at = zone.to_timestamp(local).ok()?;
            u64::try_from(at.as_nanosecond()).ok()
        };
        match self {
            When::After(after) => start_ns.checked_add(u64::try_from(after.as_nanos()).ok()?),
            When::At(at) => Some(*at),
            When::Local(local) => of_local(*local),
            When::TimeOfDay(time) => {
                let start = Timestamp::from_nanosecond(i128::from(start_ns)).ok()?;
                let day = zone.to_datetime(start).date();
                let at = of_local(day.to_datetime(*time))?;
                // Whoever reads times off a screen leaves out the part of a second.
                if at.saturating_add(1_000_000_000) > start_ns {
                    return Some(at);
                }
                of_local(day.checked_add(1.day()).ok()?.to_datetime(*time))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-07-11 14:03:07.123 UTC.
    const START: u64 = 1_752_242_587_123_000_000;

    fn at(text: &str) -> u64 {
        let when = When::parse(text).expect(text);
        when.unix_ns(START, &TimeZone::UTC).expect(text)
    }

    #[test]
    fn moments_are_read() {
        let second = 1_000_000_000;
        assert_eq!(at("30s"), START + 30 * second);
        assert_eq!(at("+500ms"), START + second / 2);
        assert_eq!(at("14:04"), START - 7_123_000_000 + 60 * second);
        assert_eq!(at("14:03:07"), START - 123_000_000);
        assert_eq!(at("14:03:08.5"), START + 1_377_000_000);
        assert_eq!(at("2025-07-11T14:03:08Z"), START + 877_000_000);
        assert_eq!(at("2025-07-11T14:03:08"), START + 877_000_000);
        assert_eq!(at("2025-07-11 14:03:08"), START + 877_000_000);
        assert_eq!(
            at("00:00:01"),
            START - 7_123_000_000 - 50_580 * second + 86_401 * second
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "soon", "25:00", "-5s", "2025-13-01", "12"] {
            assert!(When::parse(text).is_err(), "{text}");
        }
    }
}
