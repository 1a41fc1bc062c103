//! Names of block devices. From sysfs, which waits for no device.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::model::Name;

/// The name of a device, as in `/sys/block`; `None` if there is none, or it cannot be read.
pub(crate) fn name(major: u32, minor: u32) -> Option<Name> {
    let target = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    Some(Name::from(target.file_name()?.as_bytes()))
}
