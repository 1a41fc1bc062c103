//! An NFS server (version 3) with one file whose reads take a known time. Its client is the kernel of the same
//! machine, so it runs in a process of its own, as the slow file system does.

use std::io::{self, Read as _};
use std::time::Duration;

use async_trait::async_trait;
use nfsserve::nfs::{fattr3, fileid3, filename3, ftype3, nfspath3, nfsstat3, sattr3};
use nfsserve::tcp::{NFSTcp as _, NFSTcpListener};
use nfsserve::vfs::{DirEntry, NFSFileSystem, ReadDirResult, VFSCapabilities};

use crate::mem::PAGE;
use crate::slowfs::content;
use crate::workload::protocol::say;

/// The name of the file.
pub const FILE: &str = "data";
const ROOT_ID: fileid3 = 1;
const FILE_ID: fileid3 = 2;

/// Serve a file over NFS, with slow reads, until the input ends; says its port.
#[derive(Debug, clap::Args)]
pub struct NfsArgs {
    /// Pages of the file.
    #[arg(long)]
    pub pages: usize,
    /// Time a read takes, µs.
    #[arg(long)]
    pub delay_us: u64,
}

/// Runs until the input ends.
pub fn run(args: &NfsArgs) {
    let export = Export {
        size: (args.pages * PAGE) as u64,
        delay: Duration::from_micros(args.delay_us),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads for the server");
    let listener = runtime
        .block_on(NFSTcpListener::bind("127.0.0.1:0", export))
        .expect("listen on the loopback device");
    say("ready", &listener.get_listen_port());
    runtime.spawn(async move {
        if let Err(error) = listener.handle_forever().await {
            eprintln!("the NFS server ends: {error}");
            std::process::exit(1);
        }
    });
    let mut rest = Vec::new();
    io::stdin()
        .read_to_end(&mut rest)
        .expect("wait for the end of the input");
    runtime.shutdown_background();
}

struct Export {
    size: u64,
    delay: Duration,
}

impl Export {
    fn attributes(&self, id: fileid3) -> Result<fattr3, nfsstat3> {
        let (ftype, mode, size) = match id {
            ROOT_ID => (ftype3::NF3DIR, 0o755, 0),
            FILE_ID => (ftype3::NF3REG, 0o444, self.size),
            _ => return Err(nfsstat3::NFS3ERR_NOENT),
        };
        Ok(fattr3 {
            ftype,
            mode,
            nlink: 1,
            size,
            used: size,
            fileid: id,
            ..fattr3::default()
        })
    }
}

const READ_ONLY: nfsstat3 = nfsstat3::NFS3ERR_ROFS;

#[async_trait]
impl NFSFileSystem for Export {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadOnly
    }

    fn root_dir(&self) -> fileid3 {
        ROOT_ID
    }

    async fn lookup(&self, directory: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        match directory == ROOT_ID && name.0 == FILE.as_bytes() {
            true => Ok(FILE_ID),
            false => Err(nfsstat3::NFS3ERR_NOENT),
        }
    }

    async fn getattr(&self, id: fileid3) -> Result<fattr3, nfsstat3> {
        self.attributes(id)
    }

    async fn read(
        &self,
        _id: fileid3,
        offset: u64,
        count: u32,
    ) -> Result<(Vec<u8>, bool), nfsstat3> {
        tokio::time::sleep(self.delay).await;
        let left = self.size.saturating_sub(offset);
        let count = count.min(u32::try_from(left).unwrap_or(u32::MAX));
        let end = offset + u64::from(count) >= self.size;
        Ok((content(offset, count), end))
    }

    async fn readdir(
        &self,
        _directory: fileid3,
        after: fileid3,
        _most: usize,
    ) -> Result<ReadDirResult, nfsstat3> {
        let file = DirEntry {
            fileid: FILE_ID,
            name: FILE.as_bytes().into(),
            attr: self.attributes(FILE_ID)?,
        };
        let entries = if after == FILE_ID { vec![] } else { vec![file] };
        Ok(ReadDirResult { entries, end: true })
    }

    async fn setattr(&self, _id: fileid3, _to: sattr3) -> Result<fattr3, nfsstat3> {
        Err(READ_ONLY)
    }

    async fn write(&self, _id: fileid3, _offset: u64, _data: &[u8]) -> Result<fattr3, nfsstat3> {
        Err(READ_ONLY)
    }

    async fn create(
        &self,
        _directory: fileid3,
        _name: &filename3,
        _to: sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn create_exclusive(
        &self,
        _directory: fileid3,
        _name: &filename3,
    ) -> Result<fileid3, nfsstat3> {
        Err(READ_ONLY)
    }

    async fn mkdir(
        &self,
        _directory: fileid3,
        _name: &filename3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn remove(&self, _directory: fileid3, _name: &filename3) -> Result<(), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn rename(
        &self,
        _from: fileid3,
        _old: &filename3,
        _to: fileid3,
        _new: &filename3,
    ) -> Result<(), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn symlink(
        &self,
        _directory: fileid3,
        _name: &filename3,
        _to: &nfspath3,
        _attributes: &sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn readlink(&self, _id: fileid3) -> Result<nfspath3, nfsstat3> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }
}
