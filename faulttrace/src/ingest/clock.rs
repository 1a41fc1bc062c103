//! Kernel time to Unix time.

use nix::time::{ClockId, clock_gettime};

/// Turns `CLOCK_MONOTONIC`, which the programs read, into Unix time. The offset is taken once, so
/// that a step of the system's clock reorders nothing.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    offset_ns: i128,
}

/// How often the offset is measured; the quickest measurement is the most exact.
const MEASUREMENTS: usize = 5;

impl Clock {
    /// Measures the offset between the two clocks.
    pub fn new() -> nix::Result<Self> {
        let mut best: Option<(i128, i128)> = None;
        for _ in 0..MEASUREMENTS {
            let before = read(ClockId::CLOCK_MONOTONIC)?;
            let unix = read(ClockId::CLOCK_REALTIME)?;
            let after = read(ClockId::CLOCK_MONOTONIC)?;
            let width = after - before;
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, unix - (before + width / 2)));
            }
        }
        Ok(Self {
            offset_ns: best.map_or(0, |(_, offset)| offset),
        })
    }

    /// Of two clocks that are so far apart.
    #[cfg(test)]
    pub(super) fn of(offset_ns: i128) -> Self {
        Self { offset_ns }
    }

    /// Unix time in ns of a monotonic time in ns.
    pub fn unix_ns(&self, monotonic_ns: u64) -> u64 {
        u64::try_from(i128::from(monotonic_ns) + self.offset_ns).unwrap_or(0)
    }

    /// Now, `CLOCK_MONOTONIC` ns: comparable with the programs' times.
    pub fn monotonic_ns() -> u64 {
        read(ClockId::CLOCK_MONOTONIC)
            .ok()
            .and_then(|now| u64::try_from(now).ok())
            .unwrap_or(0)
    }
}

fn read(clock: ClockId) -> nix::Result<i128> {
    let time = clock_gettime(clock)?;
    Ok(i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_time_is_the_system_clock() {
        let clock = Clock::new().expect("clocks");
        let ours = clock.unix_ns(Clock::monotonic_ns());
        let system = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos();
        assert!((i128::from(ours) - i128::try_from(system).expect("fits")).abs() < 1_000_000_000);
    }
}
