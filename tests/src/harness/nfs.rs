//! A file on an NFS server from the test's side: the server's process and its mount.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::process::Running;
use super::work::{binary, receive};
use super::{Bench, SOON};
use crate::nfs::FILE;

/// A mounted export, unmounted on drop.
pub struct Nfs {
    mount: PathBuf,
    file: PathBuf,
    _server: Running,
}

impl Nfs {
    /// Starts a server with a file of so many pages, of which each read takes so long, and mounts it.
    pub fn mount(bench: &Bench, pages: usize, delay_us: u64) -> Nfs {
        let mut command = Command::new(binary());
        command.args(["nfs", &format!("--pages={pages}")]);
        command.arg(format!("--delay-us={delay_us}"));
        let server = Running::start("nfs", &mut command);
        let port: u16 = receive(&server, "ready", Instant::now() + SOON);
        let directory = bench.subdirectory("nfs");
        // As mount.nfs hands it to the kernel (nfs(5)), which asks for the export itself.
        let options = format!(
            "addr=127.0.0.1,vers=3,proto=tcp,port={port},mountproto=tcp,mountaddr=127.0.0.1,\
             mountport={port},nolock,soft,timeo=50,retrans=3"
        );
        mount(
            Some("127.0.0.1:/"),
            &directory,
            Some("nfs"),
            MsFlags::MS_RDONLY,
            Some(options.as_str()),
        )
        .expect("mount over NFS (needs modules nfs and nfsv3)");
        let file = directory.join(FILE);
        Nfs {
            mount: directory,
            file,
            _server: server,
        }
    }

    /// The file whose reads are slow.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Nfs {
    fn drop(&mut self) {
        // By force: a workload that was killed may still wait for the server, which goes next.
        let _gone = umount2(&self.mount, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}
