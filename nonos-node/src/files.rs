//! Writing files that a power cut leaves whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces a file: afterwards it holds either its old content or all of the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    finish(File::create(&fresh)?, &fresh, path, bytes)
}

/// As [`replace`], for the eyes of the file's owner alone: mode 0600 before the first byte.
pub(crate) fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    // Somebody may have a leftover open.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    finish(file, &fresh, path, bytes)
}

fn finish(mut file: File, fresh: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    match path.parent() {
        // A bare name is in the working directory.
        Some(directory) if directory.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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

    #[test]
    fn a_secret_is_its_owners_also_over_a_leftover() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.hidden");
        for leftover in [&path, &path.with_added_extension("new")] {
            fs::write(leftover, b"open to all").expect("written");
            fs::set_permissions(leftover, fs::Permissions::from_mode(0o644)).expect("changed");
        }
        replace_secret(&path, b"whole").expect("replaced");
        assert_eq!(fs::read(&path).expect("there"), b"whole");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
