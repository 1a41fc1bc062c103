//! A tracer, ours or a peer, as a process: started, known to be attached by its own sign, stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use faulttrace_tests::harness::process::{die_with_parent, tail};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::bpf::{self, Empty};
use crate::tools::{Kind, Tools};
use crate::usage;

/// How long a tracer may take to attach, or to end: symbols and many events take their time.
const DEADLINE: Duration = Duration::from_secs(60);
/// After which time a tracer that can miss a signal is sent another.
const AGAIN: Duration = Duration::from_secs(5);
/// How often a sign is looked for: the uncertainty of the moment of attaching.
const GLANCE: Duration = Duration::from_millis(1);

/// How a tracer shows that it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// There is nothing to attach.
    AtOnce,
    /// A line of its output or its diagnostics has this.
    Says(&'static str),
    /// It answers on its control file.
    Acknowledges,
    /// There is output, which is events.
    Output,
}

/// One that runs. Killed on drop.
pub(crate) struct Tracer {
    kind: Kind,
    child: Option<Child>,
    control: Option<Control>,
    _empties: Vec<Empty>,
    directory: TempDir,
}

/// perf's control files, of which it reads commands and to which it writes answers.
struct Control {
    commands: File,
    answers: File,
}

/// What is known of one that has ended.
pub(crate) struct Ended {
    /// CPU time of all its processes from its beginning to its end.
    pub(crate) cpu: Duration,
    directory: TempDir,
}

impl Ended {
    /// A file that it has written.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Standard output of a tracer.
pub(crate) const OUT: &str = "out";
/// Its diagnostics.
pub(crate) const ERR: &str = "err";
/// What it saves.
pub(crate) const SAVED: &str = "saved";

impl Tracer {
    /// Starts one on a process. `scratch` is where it writes.
    pub(crate) fn start(
        kind: Kind,
        tools: &Tools,
        pid: u32,
        scratch: &Path,
    ) -> anyhow::Result<Tracer> {
        let directory = TempDir::new_in(scratch).context("a directory for a tracer's output")?;
        let control = (kind.sign() == Sign::Acknowledges)
            .then(|| Control::new(directory.path()))
            .transpose()?;
        let mut tracer = Tracer {
            kind,
            child: None,
            control,
            _empties: match kind {
                Kind::Empty(hooks) => {
                    let attached = hooks
                        .iter()
                        .map(|hook| Empty::attach(bpf::tracepoint(hook)?));
                    attached.collect::<Result<_, _>>()?
                }
                _ => Vec::new(),
            },
            directory,
        };
        if let Some(mut command) = kind.command(tools, pid) {
            let file = |name| File::create(tracer.directory.path().join(name));
            command
                .current_dir(tracer.directory.path())
                .stdin(Stdio::null())
                .stdout(file(OUT).context(OUT)?)
                .stderr(file(ERR).context(ERR)?);
            die_with_parent(&mut command);
            tracer.child = Some(
                command
                    .spawn()
                    .with_context(|| format!("starting {command:?}"))?,
            );
        }
        if let Some(control) = &mut tracer.control {
            control
                .commands
                .write_all(b"enable\n")
                .context("perf's control file")?;
        }
        Ok(tracer)
    }

    /// Its process id, if there is a process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until it is attached.
    pub(crate) fn attached(&mut self) -> anyhow::Result<()> {
        let sign = self.kind.sign();
        self.until("to be attached", |tracer| match sign {
            Sign::AtOnce => Ok(true),
            Sign::Says(words) => Ok(tracer.says(OUT, words)? || tracer.says(ERR, words)?),
            Sign::Output => Ok(tracer.size(OUT)? > 0),
            Sign::Acknowledges => tracer.acknowledged(),
        })
    }

    /// Waits until its output has these words.
    pub(crate) fn until_it_says(&mut self, words: &str) -> anyhow::Result<()> {
        self.until(words, |tracer| tracer.says(OUT, words))
    }

    fn until(
        &mut self,
        awaited: &str,
        mut holds: impl FnMut(&mut Tracer) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self)? {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().context("waiting for a tracer")?
            {
                bail!("{} ended ({status})\n{}", self.kind, self.diagnostics());
            }
            ensure!(
                Instant::now() < deadline,
                "{} was waited for {awaited} for {DEADLINE:?}\n{}",
                self.kind,
                self.diagnostics()
            );
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Only the beginning is looked at: what is waited for comes first.
    fn says(&self, file: &str, words: &str) -> anyhow::Result<bool> {
        let mut text = Vec::new();
        let path = self.directory.path().join(file);
        File::open(&path)
            .and_then(|file| file.take(1 << 16).read_to_end(&mut text))
            .with_context(|| path.display().to_string())?;
        Ok(String::from_utf8_lossy(&text).contains(words))
    }

    fn size(&self, file: &str) -> anyhow::Result<u64> {
        let path = self.directory.path().join(file);
        let metadata = fs::metadata(&path).with_context(|| path.display().to_string())?;
        Ok(metadata.len())
    }

    fn acknowledged(&mut self) -> anyhow::Result<bool> {
        let control = self.control.as_mut().context("no control file")?;
        match control.answers.read(&mut [0; 64]) {
            Ok(count) => Ok(count > 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("perf's control file"),
        }
    }

    fn diagnostics(&self) -> String {
        let text = fs::read(self.directory.path().join(ERR)).unwrap_or_default();
        tail(&String::from_utf8_lossy(&text))
    }

    /// Ctrl-C, then waits for its end.
    pub(crate) fn stop(mut self) -> anyhow::Result<Ended> {
        let before = usage::ended_children()?;
        if let Some(child) = &mut self.child {
            signal(child, Signal::SIGINT)?;
            let deadline = Instant::now() + DEADLINE;
            let mut again = Instant::now() + AGAIN;
            while child.try_wait().context("waiting for a tracer")?.is_none() {
                if self.kind.misses_signals() && Instant::now() > again {
                    signal(child, Signal::SIGINT)?;
                    again = Instant::now() + AGAIN;
                }
                ensure!(
                    Instant::now() < deadline,
                    "{} did not end within {DEADLINE:?} of SIGINT\n{}",
                    self.kind,
                    self.diagnostics()
                );
                std::thread::sleep(GLANCE);
            }
        }
        Ok(Ended {
            cpu: usage::ended_children()?.saturating_sub(before),
            directory: self.take_directory()?,
        })
    }

    fn take_directory(&mut self) -> anyhow::Result<TempDir> {
        self.child = None;
        let empty = TempDir::new().context("a directory")?;
        Ok(std::mem::replace(&mut self.directory, empty))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl Control {
    fn new(directory: &Path) -> anyhow::Result<Control> {
        let open = |name: &str| {
            let path = directory.join(name);
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
                .with_context(|| path.display().to_string())?;
            // Both ends, so that opening waits for nobody.
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK);
            options
                .open(&path)
                .with_context(|| path.display().to_string())
        };
        Ok(Control {
            commands: open("commands")?,
            answers: open("answers")?,
        })
    }
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, signal).context("sending a signal")
}

/// What a command prints. Fails if it does.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        tail(&String::from_utf8_lossy(&output.stderr))
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
