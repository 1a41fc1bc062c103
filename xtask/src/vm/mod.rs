//! `cargo xtask vm`: the end-to-end tests that depend on the kernel, on other kernels than the
//! running one, in QEMU. docs/kernels.md has the results.

mod boot;
mod image;
mod kernels;
mod suite;
mod verdict;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use self::boot::{Accelerator, Guest};
use self::kernels::Series;
use self::suite::Asked;
use self::verdict::Heard;
use crate::cargo::{find_binary, release_binary};
use crate::shell::{say, target_dir};
use crate::test::helpers_and_tests;

/// Boots each named kernel (all without names) and runs the tests there. Fails unless every test
/// that was asked for passed on each.
pub(crate) fn vm(names: &[String], programs: &[String]) -> anyhow::Result<()> {
    let chosen = kernels::chosen(names)?;
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    let built = helpers_and_tests()?;
    find_binary(&built, "faulttrace-workload")?;
    let asked = suite::asked(&built, programs)?;
    let directory = target_dir()?.join("vm");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let disk = image::disk(&directory, &faulttrace, &built, &asked)?;
    image::say_where(&directory);
    let mut accelerator = None;
    let mut report = Vec::new();
    let mut all_fine = true;
    for series in chosen {
        let (lines, fine) = test_on(series, &directory, &disk, &asked, &mut accelerator)?;
        report.extend(lines);
        all_fine &= fine;
    }
    for line in &report {
        say(line);
    }
    if !all_fine {
        bail!(
            "not every test passed on every kernel: the logs are in {}",
            directory.display()
        );
    }
    Ok(())
}

/// The verdict on one kernel: a line for each program, and whether all is fine.
fn test_on(
    series: Series,
    directory: &Path,
    disk: &Path,
    asked: &[Asked],
    accelerator: &mut Option<Accelerator>,
) -> anyhow::Result<(Vec<String>, bool)> {
    let kernel = kernels::obtain(series)?;
    let initramfs = image::initramfs(directory, &kernel)?;
    let guest = Guest {
        kernel: &kernel.image,
        initramfs: &initramfs,
        disk,
        emulated_cpus: series.emulated_cpus,
    };
    let how = match accelerator {
        Some(how) => *how,
        None => *accelerator.insert(boot::accelerator(&guest, &directory.join("kvm.log"))?),
    };
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
    for (text, passed) in heard.judge(asked) {
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
