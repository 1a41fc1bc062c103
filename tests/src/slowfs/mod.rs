//! A read-only FUSE file system with one file whose reads take a known time.
//!
//! Every read is logged with its times, and the reply for a chosen page can be held until told
//! otherwise. `serve` runs it in a process of its own: a process that waits for a page of a file
//! it serves itself cannot be helped.

pub mod serve;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, ReplyOpen, Request, SessionACL,
};
use serde::{Deserialize, Serialize};

use crate::clock::monotonic_ns;
use crate::mem::PAGE;

const FILE_INODE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);
const SERVER_THREADS: usize = 32;

/// One read as the file system saw it: ground truth for how long a fault on it had to wait.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Read {
    pub offset: u64,
    pub size: u32,
    /// The thread that asked; 0 = the kernel does not say (readahead).
    pub tid: u32,
    /// `CLOCK_MONOTONIC` when the request reached the server, ns.
    pub begin_ns: u64,
    /// `CLOCK_MONOTONIC` just before the reply, ns.
    pub end_ns: u64,
}

/// How long the read of an offset takes.
pub type Delay = dyn Fn(u64) -> Duration + Send + Sync;

/// What to serve.
pub struct Plan {
    /// Name of the one file.
    pub name: OsString,
    /// Its size, bytes.
    pub size: u64,
    /// Readahead the kernel may do, bytes; less than a page: none.
    pub readahead: u32,
    /// Time each read takes.
    pub delay: Box<Delay>,
}

#[derive(Default)]
struct State {
    log: Vec<Read>,
    hold: BTreeSet<u64>,
    fail_once: BTreeSet<u64>,
    held: Vec<(Read, ReplyData)>,
}

/// State shared between the server's threads and whoever controls it.
#[derive(Default)]
pub struct Control {
    state: Mutex<State>,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread of the file system panics with the lock")
    }

    /// From now on, do not answer reads that cover this offset.
    pub fn hold(&self, offset: u64) {
        self.lock().hold.insert(offset);
    }

    /// Fail the next read that covers this offset, and do not answer those after it.
    ///
    /// A fault whose read fails tries again, and this time keeps `mmap_lock` while it waits: the
    /// kernel lets go of it only the first time (mm/filemap.c, `maybe_unlock_mmap_for_io`).
    pub fn stall(&self, offset: u64) {
        let mut state = self.lock();
        state.fail_once.insert(offset);
        state.hold.insert(offset);
    }

    /// The offsets of reads that wait to be released.
    pub fn held(&self) -> Vec<u64> {
        self.lock()
            .held
            .iter()
            .map(|(read, _)| read.offset)
            .collect()
    }

    /// Answers all held reads and holds no more.
    pub fn release(&self) {
        let mut state = self.lock();
        state.hold.clear();
        for (read, reply) in std::mem::take(&mut state.held) {
            finish(&mut state, read, reply);
        }
    }

    /// All reads that were answered.
    pub fn log(&self) -> Vec<Read> {
        self.lock().log.clone()
    }

    /// Forgets the reads so far: a server that runs for long and reads no log.
    pub fn forget(&self) {
        self.lock().log.clear();
    }
}

fn finish(state: &mut State, mut read: Read, reply: ReplyData) {
    read.end_ns = monotonic_ns();
    reply.data(&content(read.offset, read.size));
    state.log.push(read);
}

/// The bytes of a part of the file: each page begins with its own offset.
pub(crate) fn content(offset: u64, size: u32) -> Vec<u8> {
    let mut bytes = vec![0_u8; size as usize];
    for (index, page) in bytes.chunks_mut(PAGE).enumerate() {
        let stamp = (offset + (index * PAGE) as u64).to_ne_bytes();
        let len = page.len().min(stamp.len());
        page[..len].copy_from_slice(&stamp[..len]);
    }
    bytes
}

struct SlowFs {
    plan: Plan,
    control: std::sync::Arc<Control>,
}

impl SlowFs {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o755, 0),
            FILE_INODE => (FileType::RegularFile, 0o444, self.plan.size),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        })
    }
}

impl Filesystem for SlowFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The library refuses 0; anything under a page is none.
        let refused = |limit| io::Error::other(format!("readahead is limited to {limit} bytes"));
        config
            .set_max_readahead(self.plan.readahead.max(1))
            .map_err(refused)?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE_INODE) {
            Some(attributes) if parent == INodeNo::ROOT && name == self.plan.name => {
                reply.entry(&TTL, &attributes, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Pages stay cached when another process opens the file: eviction is the test's choice.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let begin_ns = monotonic_ns();
        let left = u32::try_from(self.plan.size.saturating_sub(offset)).unwrap_or(u32::MAX);
        let read = Read {
            offset,
            size: size.min(left),
            tid: request.pid(),
            begin_ns,
            end_ns: 0,
        };
        thread::sleep((self.plan.delay)(offset));
        let mut state = self.control.lock();
        let end = offset + u64::from(size);
        let failing = state.fail_once.range(offset..end).next().copied();
        if let Some(failing) = failing {
            state.fail_once.remove(&failing);
            reply.error(Errno::EIO);
            return;
        }
        if state.hold.range(offset..end).next().is_some() {
            state.held.push((read, reply));
        } else {
            finish(&mut state, read, reply);
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if offset == 0 {
            // One entry always fits into the buffer of the request.
            let _full = reply.add(FILE_INODE, 1, FileType::RegularFile, &self.plan.name);
        }
        reply.ok();
    }
}

/// Mounts it; unmounted when the session is dropped.
pub fn mount(
    plan: Plan,
    control: std::sync::Arc<Control>,
    directory: &Path,
) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::FSName("faulttrace-slowfs".to_owned()),
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(SERVER_THREADS);
    config.clone_fd = true;
    fuser::spawn_mount(SlowFs { plan, control }, directory, &config)
}
