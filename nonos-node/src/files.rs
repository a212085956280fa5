//! Writing files that a power cut leaves whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces a file: afterwards it holds either its old content or all of the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_of_a_cut_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trust.bin");
        fs::write(path.with_extension("new"), b"half").expect("written");
        replace(&path, b"whole").expect("replaced");
        assert_eq!(fs::read(&path).expect("there"), b"whole");
        assert!(!path.with_extension("new").exists());
    }
}
