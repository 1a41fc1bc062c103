//! `cargo xtask vm`: the end-to-end tests that depend on the kernel, on other kernels than the
//! running one, in QEMU. docs/kernels.md has the results.

mod apt;
mod architecture;
mod boot;
mod image;
mod kernels;
mod suite;
mod userland;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use self::architecture::Architecture;
pub(crate) use self::boot::Preempt;
use self::boot::{Accelerator, Guest};
use self::kernels::{Kernel, Series};
use self::suite::{Asked, Machine, Program};
use self::userland::Userland;
use self::verdict::Heard;
use crate::cargo::{Executable, Target, release_binary_for};
use crate::setup::Purpose;
use crate::shell::{say, target_dir};
use crate::test::helpers_and_tests;

/// What the named kernels take on this machine.
pub(crate) fn purpose(names: &[String]) -> anyhow::Result<Purpose> {
    let foreign = |series: &Series| series.architecture == Architecture::Arm64;
    Ok(match kernels::chosen(names)?.iter().any(foreign) {
        true => Purpose::VmArm64,
        false => Purpose::Vm,
    })
}

/// Boots each named kernel (all without names) and runs the tests there.
/// Fails unless every test that was asked for passed on each.
pub(crate) fn vm(
    names: &[String],
    programs: &[String],
    preempt: Option<Preempt>,
) -> anyhow::Result<()> {
    let chosen = kernels::chosen(names)?;
    let here = helpers_and_tests(Target::Here)?;
    let programs = suite::chosen(&here, programs)?;
    let directory = target_dir()?.join("vm");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    image::say_where(&directory);
    let mut run = Run {
        directory,
        here,
        programs,
        preempt,
        accelerator: None,
    };
    let mut report = Vec::new();
    let mut all_fine = true;
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let of_it = |series: &Series| series.architecture == architecture;
        let mut chosen = chosen.iter().copied().filter(of_it).peekable();
        if chosen.peek().is_none() {
            continue;
        }
        let common = run.common(architecture)?;
        for series in chosen {
            let (lines, fine) = run.test_on(series, &common)?;
            report.extend(lines);
            all_fine &= fine;
        }
    }
    for line in &report {
        say(line);
    }
    if !all_fine {
        bail!(
            "not every test passed on every kernel: the logs are in {}",
            run.directory.display()
        );
    }
    Ok(())
}

/// What all guests of an architecture have in common.
struct Common {
    userland: Userland,
    disk: PathBuf,
}

/// What all guests have in common.
struct Run {
    directory: PathBuf,
    /// The tests as this machine runs them: it can list them, unlike those of another architecture, which
    /// are the same.
    here: Vec<Executable>,
    programs: Vec<&'static Program>,
    preempt: Option<Preempt>,
    /// Of guests of this machine's architecture, once it is known.
    accelerator: Option<Accelerator>,
}

impl Run {
    /// Builds what the guests of an architecture run, and makes their disk.
    fn common(&self, architecture: Architecture) -> anyhow::Result<Common> {
        let target = architecture.target();
        let faulttrace = release_binary_for(target, "faulttrace", "faulttrace")?;
        let foreign;
        let built = match target {
            Target::Here => &self.here,
            Target::Aarch64 => {
                foreign = helpers_and_tests(target)?;
                &foreign
            }
        };
        let userland = Userland::obtain(architecture)?;
        let directory = self.directory.join(architecture.debian());
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let disk = image::disk(&directory, &userland, &faulttrace, built, &self.programs)?;
        Ok(Common { userland, disk })
    }

    /// The verdict on one kernel: a line for each program, and whether all is fine.
    fn test_on(&mut self, series: Series, common: &Common) -> anyhow::Result<(Vec<String>, bool)> {
        let kernel = kernels::obtain(series)?;
        let directory = &self.directory;
        let initramfs = image::initramfs(directory, &common.userland, &kernel)?;
        let list = directory.join("list");
        let write_list = |asked: &[Asked]| {
            fs::write(&list, suite::list(asked)).with_context(|| list.display().to_string())
        };
        write_list(&[])?;
        let guest = Guest {
            architecture: series.architecture,
            kernel: &kernel.image,
            initramfs: &initramfs,
            disk: &common.disk,
            list: &list,
            emulated_cpus: series.emulated_cpus,
            preempt: self.preempt,
        };
        let how = match (series.architecture, self.accelerator) {
            (Architecture::Arm64, _) => Accelerator::Tcg,
            (Architecture::Amd64, Some(how)) => how,
            (Architecture::Amd64, None) => {
                let how = boot::accelerator(&guest, &directory.join("kvm.log"))?;
                *self.accelerator.insert(how)
            }
        };
        let machine = Machine {
            series: series.name,
            cpus: guest.cpus(how),
            preempt: self.preempt,
        };
        let asked = suite::asked(&self.programs, &self.here, machine)?;
        write_list(&asked)?;
        let log = directory.join(format!("{}.log", series.name));
        let heard = boot_twice(&guest, how, &log, &kernel)?;
        Ok(verdict(&heard, &asked, &kernel, self.preempt, &log))
    }
}

/// Boots, and once more if there is no verdict at all.
fn boot_twice(
    guest: &Guest,
    how: Accelerator,
    log: &Path,
    kernel: &Kernel,
) -> anyhow::Result<Heard> {
    let heard = boot::boot(guest, how, log)?;
    if !no_verdict(&heard) {
        return Ok(heard);
    }
    // QEMU 7.2 hung in 5 of 43 boots. A test that failed is never tried again.
    say(&format!("{}: no verdict at all: once more", kernel.release));
    boot::boot(guest, how, log)
}

/// A line for each program, and whether all is fine.
fn verdict(
    heard: &Heard,
    asked: &[Asked],
    kernel: &Kernel,
    preempt: Option<Preempt>,
    log: &Path,
) -> (Vec<String>, bool) {
    let release = &kernel.release;
    let name = match preempt {
        Some(preempt) => format!("{release} preempt={}", preempt.name()),
        None => release.clone(),
    };
    let mut fine = true;
    let mut lines = Vec::new();
    if !heard.ended || heard.release.as_ref() != Some(release) {
        lines.push(format!(
            "{name}: FAILED: the guest did not come to its end: see {}",
            log.display()
        ));
        fine = false;
    }
    if heard.ended && !heard.is_unharmed() {
        lines.push(format!(
            "{name}: FAILED: the kernel warned or died: see the end of {}",
            log.display()
        ));
        fine = false;
    }
    if preempt.is_some_and(|preempt| heard.preempt.as_deref() != Some(preempt.name())) {
        let how = heard.preempt.as_deref().unwrap_or("not told");
        lines.push(format!("{name}: FAILED: in the guest it is {how}"));
        fine = false;
    }
    for (text, passed) in heard.judge(asked) {
        let verdict = if passed { "ok" } else { "FAILED" };
        lines.push(format!("{name}: {verdict}: {text}"));
        fine &= passed;
    }
    (lines, fine)
}

/// Not one program has said how it ended, nor has the guest come to its end.
fn no_verdict(heard: &Heard) -> bool {
    !heard.ended && !heard.any_program()
}
