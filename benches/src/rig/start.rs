//! The section on starting: from the start of the process to attached, and to the first event.

use std::time::Instant;

use crate::stats::Spread;
use crate::storm::Storm;
use crate::storms::StallDisk;
use crate::table::{Table, or_none};
use crate::tools::Kind;
use crate::tracer::Tracer;
use crate::{Settings, cpus, say};

/// Who is started, and the words of its first event; perf writes no event that could be seen at once.
const STARTED: [(Kind, Option<&str>); 3] = [
    (Kind::FaulttraceJson, Some("\"type\":\"fault\"")),
    (Kind::PerfRecordMajor, None),
    (Kind::BpftraceStalls, Some("fault ")),
];

/// Starts each in turn, several times, on a process that always has faults that sleep.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<String> {
    let disk = StallDisk::new(&settings.scratch, 32);
    let options = [
        "--cpu".to_owned(),
        cpus(1)?[0].to_string(),
        "--file".to_owned(),
        disk.file.display().to_string(),
    ];
    let storm = Storm::start(&settings.tools, &settings.scratch, "stall", &options)?;
    let mut attached = [const { Vec::new() }; STARTED.len()];
    let mut first = [const { Vec::new() }; STARTED.len()];
    for round in 1..=settings.rounds {
        say(&format!("starting, round {round} of {}", settings.rounds));
        for (index, (kind, event)) in STARTED.iter().enumerate() {
            let begun = Instant::now();
            let mut tracer = Tracer::start(*kind, &settings.tools, storm.pid(), &settings.scratch)?;
            tracer.attached()?;
            attached[index].push(begun.elapsed().as_secs_f64());
            if let Some(event) = event {
                tracer.until_it_says(event)?;
                first[index].push(begun.elapsed().as_secs_f64());
            }
            tracer.stop()?;
        }
    }
    storm.end()?;
    let mut table = Table::new(&["tracer", "attached after, s", "first event after, s"]);
    let seconds = |spread: Spread| {
        format!(
            "{:.2} [{:.2} … {:.2}]",
            spread.median, spread.low, spread.high
        )
    };
    for (index, (kind, _)) in STARTED.iter().enumerate() {
        table.row([
            kind.to_string(),
            or_none(Spread::of(&attached[index]), seconds),
            or_none(Spread::of(&first[index]), seconds),
        ]);
    }
    Ok(format!(
        "## Start\n\nOn a process that always has faults that sleep, while that storm and whatever else \
         runs take the CPUs. Median of {} starts [lowest … highest].\n\n{table}",
        settings.rounds
    ))
}
