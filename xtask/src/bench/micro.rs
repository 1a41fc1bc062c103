//! The steps of userspace, one by one.

use std::ffi::OsString;

use crate::cargo::cargo;
use crate::shell::run;

/// What userspace does for each fault. Compares with the run before, if there was one.
pub(crate) fn micro(arguments: &[OsString]) -> anyhow::Result<()> {
    run(cargo()?
        .args(["bench", "--package", "faulttrace-benches"])
        .args(["--bench", "micro", "--"])
        .args(arguments))
}
