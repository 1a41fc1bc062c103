//! `cargo xtask vm`: the end-to-end tests that depend on the kernel, on other kernels than the
//! running one, in QEMU. docs/kernels.md has the results.

mod boot;
mod image;
mod kernels;
mod suite;
mod verdict;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use self::boot::{Accelerator, Guest};
use self::kernels::Series;
use self::suite::{Asked, Machine, Program};
use self::verdict::Heard;
use crate::cargo::{Executable, Target, find_binary, release_binary};
use crate::shell::{say, target_dir};
use crate::test::helpers_and_tests;

/// Boots each named kernel (all without names) and runs the tests there. Fails unless every test
/// that was asked for passed on each.
pub(crate) fn vm(names: &[String], programs: &[String]) -> anyhow::Result<()> {
    let chosen = kernels::chosen(names)?;
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    let built = helpers_and_tests(Target::Here)?;
    find_binary(&built, "faulttrace-workload")?;
    let programs = suite::chosen(&built, programs)?;
    let directory = target_dir()?.join("vm");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let disk = image::disk(&directory, &faulttrace, &built, &programs)?;
    image::say_where(&directory);
    let setup = Setup {
        directory,
        disk,
        built,
        programs,
    };
    let mut accelerator = None;
    let mut report = Vec::new();
    let mut all_fine = true;
    for series in chosen {
        let (lines, fine) = test_on(series, &setup, &mut accelerator)?;
        report.extend(lines);
        all_fine &= fine;
    }
    for line in &report {
        say(line);
    }
    if !all_fine {
        bail!(
            "not every test passed on every kernel: the logs are in {}",
            setup.directory.display()
        );
    }
    Ok(())
}

/// What all guests have in common.
struct Setup {
    directory: PathBuf,
    disk: PathBuf,
    built: Vec<Executable>,
    programs: Vec<&'static Program>,
}

/// The verdict on one kernel: a line for each program, and whether all is fine.
fn test_on(
    series: Series,
    setup: &Setup,
    accelerator: &mut Option<Accelerator>,
) -> anyhow::Result<(Vec<String>, bool)> {
    let kernel = kernels::obtain(series)?;
    let directory = &setup.directory;
    let initramfs = image::initramfs(directory, &kernel)?;
    let list = directory.join("list");
    let write_list = |asked: &[Asked]| {
        fs::write(&list, suite::list(asked)).with_context(|| list.display().to_string())
    };
    write_list(&[])?;
    let guest = Guest {
        kernel: &kernel.image,
        initramfs: &initramfs,
        disk: &setup.disk,
        list: &list,
        emulated_cpus: series.emulated_cpus,
    };
    let how = match accelerator {
        Some(how) => *how,
        None => *accelerator.insert(boot::accelerator(&guest, &directory.join("kvm.log"))?),
    };
    let machine = Machine {
        series: series.name,
        cpus: guest.cpus(how),
    };
    let asked = suite::asked(&setup.programs, &setup.built, machine)?;
    write_list(&asked)?;
    let log = directory.join(format!("{}.log", series.name));
    let mut heard = boot::boot(&guest, how, &log)?;
    if no_verdict(&heard) {
        // QEMU 7.2 hung in 5 of 43 boots. A test that failed is never tried again.
        say(&format!("{}: no verdict at all: once more", kernel.release));
        heard = boot::boot(&guest, how, &log)?;
    }
    let mut fine = heard.ended && heard.release.as_deref() == Some(&*kernel.release);
    let mut lines = Vec::new();
    if !fine {
        lines.push(format!(
            "{}: FAILED: the guest did not come to its end: see {}",
            kernel.release,
            log.display()
        ));
    }
    for (text, passed) in heard.judge(&asked) {
        let verdict = if passed { "ok" } else { "FAILED" };
        lines.push(format!("{}: {verdict}: {text}", kernel.release));
        fine &= passed;
    }
    Ok((lines, fine))
}

/// Not one program has said how it ended, nor has the guest come to its end.
fn no_verdict(heard: &Heard) -> bool {
    !heard.ended && !heard.any_program()
}
