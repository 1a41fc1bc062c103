//! One boot of one kernel in QEMU, to the end of its verdict or to a deadline.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;

use super::architecture::Architecture;
use super::verdict::Heard;
use crate::shell::{describe, find, say};

/// From QEMU's start until the guest has its disk. Takes 5 to 10 s emulated, on an idle host.
const BOOT: Duration = Duration::from_secs(180);
/// As long as nothing is said, once it is up: longer than the longest test takes, on a busy host too.
const SILENCE: Duration = Duration::from_secs(1800);
/// For the probe of KVM, which takes a second where it works.
const PROBE: Duration = Duration::from_secs(15);

/// The guest's time goes by the instructions it executes, 2^1 ns each, and by the host's clock only
/// while it is idle: a busy host makes it slow, but not its code look slow in its own clocks, by which
/// the tests measure.
const ICOUNT: &str = "shift=1,sleep=on";

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    /// QEMU's own translation. In one thread: with one for each CPU, QEMU 7.2 hung more often.
    Tcg,
}

/// How a kernel preempts itself (`preempt=` of Documentation/admin-guide/kernel-parameters.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preempt {
    None,
    Voluntary,
    Full,
    Lazy,
}

impl Preempt {
    /// As the kernel calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Preempt::None => "none",
            Preempt::Voluntary => "voluntary",
            Preempt::Full => "full",
            Preempt::Lazy => "lazy",
        }
    }
}

/// What to boot.
pub(super) struct Guest<'a> {
    pub(super) architecture: Architecture,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) disk: &'a Path,
    /// What it is asked to do, as [`super::suite::list`] writes it; its second disk.
    pub(super) list: &'a Path,
    /// If it is emulated; otherwise two.
    pub(super) emulated_cpus: u32,
    /// `None`: as it was configured.
    pub(super) preempt: Option<Preempt>,
}

impl Guest<'_> {
    /// How many CPUs it has.
    pub(super) fn cpus(&self, how: Accelerator) -> u32 {
        match how {
            Accelerator::Kvm => 2,
            Accelerator::Tcg => self.emulated_cpus,
        }
    }
}

/// For guests of this machine's architecture; others are emulated. Finds out by booting: where /dev/kvm
/// exists, guests may still not run.
pub(super) fn accelerator(guest: &Guest, log: &Path) -> anyhow::Result<Accelerator> {
    let device = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = device {
        say(&format!("/dev/kvm: {error}: the guests are emulated"));
        return Ok(Accelerator::Tcg);
    }
    let mut running = Running::start(guest, Accelerator::Kvm, log)?;
    running.listen_until(PROBE, |heard| heard.release.is_some());
    if running.heard.release.is_some() {
        return Ok(Accelerator::Kvm);
    }
    say(&format!(
        "KVM booted nothing within {} s: the guests are emulated",
        PROBE.as_secs()
    ));
    Ok(Accelerator::Tcg)
}

/// Boots, and listens until the guest is through, has ended, or a deadline has passed.
pub(super) fn boot(guest: &Guest, how: Accelerator, log: &Path) -> anyhow::Result<Heard> {
    let mut running = Running::start(guest, how, log)?;
    running.listen_until(BOOT, |heard| heard.release.is_some());
    if running.heard.release.is_some() {
        let mut lines = running.lines_for_host;
        loop {
            // Each line for the host begins the wait anew.
            running.listen_until(SILENCE, |heard| heard.ended);
            if running.heard.ended || running.over || lines == running.lines_for_host {
                break;
            }
            lines = running.lines_for_host;
        }
    }
    Ok(std::mem::take(&mut running.heard))
}

/// A QEMU, killed and reaped when dropped.
struct Running {
    qemu: Child,
    console: Receiver<String>,
    log: File,
    heard: Heard,
    lines_for_host: usize,
    /// The console was closed: QEMU has ended.
    over: bool,
}

impl Running {
    fn start(guest: &Guest, how: Accelerator, log: &Path) -> anyhow::Result<Running> {
        let mut command = qemu(guest, how)?;
        say(&describe(&command));
        let log = File::create(log).with_context(|| log.display().to_string())?;
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().context("the log")?)
            .spawn()
            .context("starting QEMU")?;
        let output = qemu.stdout.take().context("QEMU's output")?;
        let (sender, console) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while output
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|count| count > 0)
            {
                let line = String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
                bytes.clear();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Running {
            qemu,
            console,
            log,
            heard: Heard::default(),
            lines_for_host: 0,
            over: false,
        })
    }

    /// Takes in lines until it is so, QEMU has ended, or the time is over.
    fn listen_until(&mut self, within: Duration, so: impl Fn(&Heard) -> bool) {
        let deadline = Instant::now() + within;
        while !so(&self.heard) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.console.recv_timeout(left) {
                Ok(line) => {
                    // A full disk costs the log, not the verdict.
                    let _ = writeln!(self.log, "{line}");
                    if self.heard.line(&line) {
                        self.lines_for_host += 1;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    self.over = true;
                    return;
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn qemu(guest: &Guest, how: Accelerator) -> anyhow::Result<Command> {
    let architecture = guest.architecture;
    let program = architecture.qemu();
    let program = find(program).with_context(|| format!("no {program} here"))?;
    let mut command = Command::new(program);
    let accelerated: &[&str] = match how {
        Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host"],
        Accelerator::Tcg => &[
            "-accel",
            "tcg,thread=single",
            "-cpu",
            architecture.emulated_cpu(),
            "-icount",
            ICOUNT,
        ],
    };
    command.args(accelerated);
    let emulated = match how {
        Accelerator::Kvm => "",
        // init.sh tells the tests.
        Accelerator::Tcg => " faulttrace_emulated",
    };
    let preempt = guest
        .preempt
        .map(|preempt| format!(" preempt={}", preempt.name()))
        .unwrap_or_default();
    command
        .args([
            "-machine",
            architecture.machine(),
            "-m",
            "2048",
            "-smp",
            &guest.cpus(how).to_string(),
        ])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-serial", "stdio", "-kernel"])
        .arg(guest.kernel)
        .arg("-initrd")
        .arg(guest.initramfs)
        // Nothing that one kernel writes is there for the next.
        .args(drive("disk", "snapshot=on", guest.disk))
        .args(drive("list", "readonly=on", guest.list))
        .arg("-append")
        .arg(format!(
            "console={} panic=-1 quiet{emulated}{preempt}",
            architecture.console()
        ));
    Ok(command)
}

/// A disk; they are /dev/vda, /dev/vdb and so on in the order in which they come.
fn drive(id: &str, option: &str, file: &Path) -> [String; 4] {
    let file = file.display().to_string().replace(',', ",,");
    [
        "-drive".to_owned(),
        format!("if=none,id={id},format=raw,{option},file={file}"),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive={id}"),
    ]
}
