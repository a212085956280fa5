use std::io;
use std::path::Path;

use super::{Access, Disk, DiskFile, Stat};

/// Where no file can be kept to its owner, as in WASM: every call is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

fn refuse<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for RealDisk {
    fn stat(&self, _: &Path) -> io::Result<Option<Stat>> {
        refuse()
    }

    fn open(&self, _: &Path, _: Access) -> io::Result<Box<dyn DiskFile>> {
        refuse()
    }

    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        refuse()
    }
}
