//! A target to try the tracer on: a small "database" whose threads get stuck in page faults.
//!
//! The parent serves a slow file system and starts the database as a child, because a process
//! that waits for its own file system cannot be helped. Everything is removed at the end.

mod database;

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};

use crate::clock::monotonic_ns;
use crate::harness::disk;
use crate::harness::process::die_with_parent;
use crate::mem::PAGE;
use crate::slowfs::{Control, Plan, mount};

const PREFIX: &str = "/var/tmp/faulttrace-demo-";
const TABLE_PAGES: u64 = 64 * 1024;
const LOG_PAGES: usize = 2048;
/// The argument that makes this program the database.
const AS_DATABASE: &str = "--as-database";

/// Runs the demo until SIGINT, SIGTERM or, if the input is a pipe, its end.
pub fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(flag), Some(directory)) if flag == AS_DATABASE => {
            database::run(Path::new(&directory))
        }
        (None, None) => serve(),
        _ => Err(io::Error::other("faulttrace-demo takes no arguments")),
    }
}

fn serve() -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(io::Error::other(
            "faulttrace-demo mounts a file system: run it with sudo",
        ));
    }
    let told = listen()?;
    remove_leftovers();
    let (parent, prefix) = PREFIX.rsplit_once('/').unwrap_or(("/var/tmp", PREFIX));
    let place = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
    let slow = place.path().join("slow");
    fs::create_dir(&slow)?;
    disk::create(&place.path().join(database::LOG), LOG_PAGES);
    let plan = Plan {
        name: database::TABLE.into(),
        size: TABLE_PAGES * PAGE as u64,
        readahead: 0,
        delay: Box::new(|offset| delay(offset / PAGE as u64)),
    };
    let control = Arc::new(Control::default());
    let session = mount(plan, Arc::clone(&control), &slow)?;
    let ended = run_database(place.path(), &control, &told);
    // However that ended: nothing of the demo stays.
    let _gone = umount2(&slow, MntFlags::MNT_DETACH);
    drop(session);
    place.close()?;
    ended
}

fn run_database(place: &Path, control: &Control, told: &Receiver<()>) -> io::Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(AS_DATABASE).arg(place).stdin(Stdio::null());
    die_with_parent(&mut command);
    let mut database = command.spawn()?;
    let ended = watch(&mut database, control, told);
    let _gone = database.kill();
    database.wait()?;
    ended
}

/// Announces the database when it faults, and returns when told to end.
fn watch(database: &mut Child, control: &Control, told: &Receiver<()>) -> io::Result<()> {
    let mut announced = false;
    loop {
        if !announced && !control.log().is_empty() {
            announce(database.id())?;
            announced = true;
        }
        if announced {
            control.forget();
        }
        if let Some(status) = database.try_wait()? {
            // Ctrl-C reaches the database as well, and may do so first.
            let interrupted = told.recv_timeout(Duration::from_millis(200)).is_ok();
            let unexpected = || io::Error::other(format!("the database ended: {status}"));
            return if interrupted {
                Ok(())
            } else {
                Err(unexpected())
            };
        }
        match told.recv_timeout(Duration::from_millis(100)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn announce(pid: u32) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "faulttrace-demo: pid {pid}, a small database whose readers and compactor wait for pages \
         of a slow file system (5 to 30 ms, now and then 1.5 s), and whose checkpointer waits for \
         a file on disk that is evicted again and again. Ctrl-C ends it."
    )?;
    out.flush()
}

/// Mostly 5 to 30 ms, in one of 50 reads 1.5 s; no two runs alike.
fn delay(page: u64) -> Duration {
    let mixed = (page ^ monotonic_ns()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    if mixed.is_multiple_of(50) {
        Duration::from_millis(1500)
    } else {
        Duration::from_micros(5_000 + mixed % 25_000)
    }
}

/// A message when it is time to end.
fn listen() -> io::Result<Receiver<()>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Before any other thread exists, so that none of them is interrupted.
    signals.thread_block()?;
    let (sender, told) = channel();
    let other = sender.clone();
    thread::spawn(move || {
        let _which = signals.wait();
        let _nobody_listens = sender.send(());
    });
    // Only a pipe: in the background, reading from the terminal would stop the demo, and
    // /dev/null would end it at once.
    let input_is_pipe = fs::metadata("/dev/stdin").is_ok_and(|input| input.file_type().is_fifo());
    thread::spawn(move || {
        while input_is_pipe
            && io::stdin()
                .lock()
                .read(&mut [0; 64])
                .is_ok_and(|count| count > 0)
        {}
        if input_is_pipe {
            let _nobody_listens = other.send(());
        }
    });
    Ok(told)
}

/// Removes what a demo that was killed has left: a mount without a server says ENOTCONN.
fn remove_leftovers() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let dead = || fs::metadata(point).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN));
        if point.starts_with(PREFIX) && dead() {
            let _gone = umount2(point, MntFlags::MNT_DETACH);
            if let Some(place) = Path::new(point).parent() {
                let _gone = fs::remove_dir_all(place);
            }
        }
    }
}
