//! What differs between the architectures of guests, in names of other programs.

use crate::cargo::Target;

/// Of a guest's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// This machine's: the guest has its programs and libraries.
    Amd64,
    /// Always emulated; what the guest has is built for it, or from Debian's packages.
    Arm64,
}

impl Architecture {
    /// What Debian calls it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// What our programs are built for.
    pub(super) fn target(self) -> Target {
        match self {
            Architecture::Amd64 => Target::Here,
            Architecture::Arm64 => Target::Aarch64,
        }
    }

    /// The program that takes debug information out of its executables.
    pub(super) fn strip(self) -> &'static str {
        match self {
            Architecture::Amd64 => "strip",
            Architecture::Arm64 => "aarch64-linux-gnu-strip",
        }
    }

    pub(super) fn qemu(self) -> &'static str {
        match self {
            Architecture::Amd64 => "qemu-system-x86_64",
            Architecture::Arm64 => "qemu-system-aarch64",
        }
    }

    /// QEMU's machine.
    pub(super) fn machine(self) -> &'static str {
        match self {
            Architecture::Amd64 => "q35",
            Architecture::Arm64 => "virt,gic-version=3",
        }
    }

    /// QEMU's processor where it is emulated.
    pub(super) fn emulated_cpu(self) -> &'static str {
        match self {
            Architecture::Amd64 => "max",
            // Real pointer authentication more than doubles the time to boot.
            Architecture::Arm64 => "max,pauth-impdef=on",
        }
    }

    /// What the kernel calls its first serial port.
    pub(super) fn console(self) -> &'static str {
        match self {
            Architecture::Amd64 => "ttyS0",
            Architecture::Arm64 => "ttyAMA0",
        }
    }
}
