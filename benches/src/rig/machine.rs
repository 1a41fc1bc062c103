//! What the figures were measured on.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::Settings;
use crate::table::{Table, or_none};
use crate::tracer::output;

/// The machine, its kernel, and the versions of the tools, now.
pub(crate) fn machine(settings: &Settings) -> anyhow::Result<Table> {
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let first_line = |command: &mut Command| -> anyhow::Result<String> {
        Ok(output(command)?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())
    };
    row(
        "date",
        first_line(Command::new("date").args(["-u", "+%F %H:%M UTC"]))?,
    );
    row("source", settings.source.clone());
    row(
        "faulttrace",
        first_line(Command::new(&settings.tools.faulttrace).arg("--version"))?,
    );
    row("perf", first_line(Command::new("perf").arg("--version"))?);
    row(
        "bpftrace",
        first_line(Command::new("bpftrace").arg("--version"))?,
    );
    row(
        "kernel",
        first_line(Command::new("uname").args(["-s", "-r", "-v", "-m"]))?,
    );
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    row(
        "CPU",
        or_none(value_of(&cpuinfo, "model name"), str::to_owned),
    );
    row("CPUs", std::thread::available_parallelism()?.to_string());
    let flags = value_of(&cpuinfo, "flags").unwrap_or_default();
    let guest = flags.split(' ').any(|flag| flag == "hypervisor");
    row(
        "virtual machine",
        if guest { "yes" } else { "no" }.to_owned(),
    );
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    row(
        "memory",
        or_none(value_of(&meminfo, "MemTotal"), str::to_owned),
    );
    row("mitigations", mitigations());
    row(
        "clock source",
        read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    );
    row("lockdown", read_line("/sys/kernel/security/lockdown"));
    row(
        "BPF programs of others when it began",
        crate::bpf::loaded()?.to_string(),
    );
    row("load when it began (1, 5, 15 min)", load());
    Ok(table)
}

/// The load averages.
pub(crate) fn load() -> String {
    let text = read_line("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

fn read_line(path: &str) -> String {
    or_none(fs::read_to_string(path).ok(), |text| text.trim().to_owned())
}

/// The value of the first line `NAME : VALUE`.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then_some(value.trim())
    })
}

/// Those in force, each once: what a machine is not affected by costs nothing.
fn mitigations() -> String {
    let files = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let lines: BTreeSet<String> = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            format!("{name}: {}", text.trim())
        })
        .filter(|line| !line.ends_with("Not affected"))
        .collect();
    let lines: Vec<_> = lines.into_iter().collect();
    if lines.is_empty() {
        "none".to_owned()
    } else {
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "model\t\t: 1\nmodel name\t: A B: C\n";
        assert_eq!(value_of(text, "model name"), Some("A B: C"));
        assert_eq!(value_of(text, "flags"), None);
    }
}
