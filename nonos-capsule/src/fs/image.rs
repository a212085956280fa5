//! What a file system starts from: files by their paths, immutable and shared between runs.

use core::fmt;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use nonos_identity::WideDigest;
use tar::EntryType;

use super::content::Blob;
use super::path::{MAX_NAME_BYTES, MAX_PATH_BYTES};
use crate::domains::IMAGE;

/// Files, directories and symbolic links by their paths, for a run to start from.
///
/// Paths are relative and made of plain names. A clone shares everything; a run that changes a
/// file changes a copy of its own.
#[derive(Clone)]
pub struct Image(Arc<Tree>);

struct Tree {
    /// Every directory before what is in it, as the order of paths has it.
    entries: BTreeMap<String, Entry>,
    bytes: u64,
    digest: WideDigest,
}

pub(super) enum Entry {
    Directory,
    File(Arc<Blob>),
    Symlink(Arc<str>),
}

/// Why there is no such image. The fault of whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A path that is empty, not UTF-8, too long, or has a NUL byte.
    #[error("not a path: {0:?}")]
    Path(String),
    /// A path or the target of a symbolic link that is absolute or leads out of the image.
    #[error("leads out of the image: {0:?}")]
    Escape(String),
    /// Two things of one path, or something under a path that is no directory.
    #[error("two entries are in each other's way at {0:?}")]
    Conflict(String),
    /// Neither file, directory nor link.
    #[error("{0:?} is neither file, directory nor link")]
    Kind(String),
    /// More than [`Image::MAX_ENTRIES`].
    #[error("more than {} entries", Image::MAX_ENTRIES)]
    Entries,
    /// More than [`Image::MAX_BYTES`].
    #[error("more than {} bytes", Image::MAX_BYTES)]
    Bytes,
    /// Not a tar archive, or one that ends early.
    #[error("not a tar archive: {0}")]
    Archive(String),
}

impl Image {
    /// Most files, directories and links; every run lists them once.
    pub const MAX_ENTRIES: usize = 65_536;
    /// Most bytes over all files: they stay in memory with the image.
    pub const MAX_BYTES: u64 = 256 << 20;

    /// An image of files; the directories on their paths come by themselves.
    ///
    /// # Errors
    /// [`ImageError`] names the first path that cannot be in an image.
    pub fn from_files<P: AsRef<str>, B: Into<Arc<[u8]>>>(
        files: impl IntoIterator<Item = (P, B)>,
    ) -> Result<Self, ImageError> {
        let mut builder = Builder::default();
        for (path, bytes) in files {
            builder.add_file(path.as_ref(), bytes.into())?;
        }
        Ok(Self::from_entries(builder.entries))
    }

    /// An image of what is in a tar archive: files, directories, symbolic links, and hard links
    /// as files of their own. Owners, modes and times are left out: a run has one user and its
    /// own clock.
    ///
    /// # Errors
    /// [`ImageError`] names the first entry that cannot be in an image.
    pub fn from_tar(archive: &[u8]) -> Result<Self, ImageError> {
        let broken = |error: std::io::Error| ImageError::Archive(error.to_string());
        let mut builder = Builder::default();
        let mut archive_reader = tar::Archive::new(archive);
        for entry in archive_reader.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let path = text(&entry.path_bytes())?;
            let kind = entry.header().entry_type();
            let target = match entry.link_name_bytes() {
                Some(bytes) if matches!(kind, EntryType::Symlink | EntryType::Link) => text(&bytes)?,
                _ => String::new(),
            };
            match kind {
                EntryType::Directory => builder.add_directory(&path)?,
                EntryType::Symlink => builder.add_symlink(&path, &target)?,
                EntryType::Link => builder.add_copy(&path, &target)?,
                EntryType::Regular | EntryType::Continuous => {
                    // The size is what a header claims; nothing is read or reserved before this.
                    let size = entry.size();
                    builder.check_room(size)?;
                    let mut bytes = Vec::new();
                    (&mut entry).take(size).read_to_end(&mut bytes).map_err(broken)?;
                    if bytes.len() as u64 != size {
                        return Err(ImageError::Archive("ends within a file".to_owned()));
                    }
                    builder.add_file(&path, bytes.into())?;
                }
                // Comments on the archive as a whole.
                EntryType::XGlobalHeader => {}
                _ => return Err(ImageError::Kind(path)),
            }
        }
        Ok(Self::from_entries(builder.entries))
    }

    /// The digest over all paths, contents and targets: equal exactly for equal images, however
    /// they were made.
    #[must_use]
    pub fn digest(&self) -> WideDigest {
        self.0.digest
    }

    /// Bytes over all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Number of files, directories and links.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.0.entries.len()
    }

    /// The content of a file.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        match self.0.entries.get(path)? {
            Entry::File(blob) => Some(blob.bytes()),
            _ => None,
        }
    }

    /// Every path in order, directories and links too.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.entries.keys().map(String::as_str)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Entries whose directories are among them.
    pub(super) fn from_entries(entries: BTreeMap<String, Entry>) -> Self {
        let mut bytes = 0;
        let mut fields: Vec<&[u8]> = Vec::new();
        for (path, entry) in &entries {
            let (kind, content): (&[u8], &[u8]) = match entry {
                Entry::Directory => (b"directory", b""),
                Entry::File(blob) => {
                    bytes += blob.bytes().len() as u64;
                    (b"file", blob.root())
                }
                Entry::Symlink(target) => (b"symlink", target.as_bytes()),
            };
            fields.extend([path.as_bytes(), kind, content]);
        }
        let digest = WideDigest::of(IMAGE, &fields);
        Self(Arc::new(Tree { entries, bytes, digest }))
    }
}

impl Default for Image {
    /// The empty image: a directory to write in.
    fn default() -> Self {
        Self::from_entries(BTreeMap::new())
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Image {}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("digest", &self.0.digest)
            .field("entries", &self.0.entries.len())
            .field("bytes", &self.0.bytes)
            .finish()
    }
}

fn text(bytes: &[u8]) -> Result<String, ImageError> {
    core::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| ImageError::Path(String::from_utf8_lossy(bytes).into_owned()))
}

/// A path without the dots and slashes that name nothing.
fn normal(path: &str) -> Result<String, ImageError> {
    if path.starts_with('/') {
        return Err(ImageError::Escape(path.to_owned()));
    }
    let mut normal = String::new();
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." {
            return Err(ImageError::Escape(path.to_owned()));
        }
        if name.len() > MAX_NAME_BYTES || name.contains('\0') {
            return Err(ImageError::Path(path.to_owned()));
        }
        if !normal.is_empty() {
            normal.push('/');
        }
        normal.push_str(name);
    }
    if normal.len() > MAX_PATH_BYTES { Err(ImageError::Path(path.to_owned())) } else { Ok(normal) }
}

#[derive(Default)]
struct Builder {
    entries: BTreeMap<String, Entry>,
    bytes: u64,
}

impl Builder {
    fn add_file(&mut self, path: &str, bytes: Arc<[u8]>) -> Result<(), ImageError> {
        self.check_room(bytes.len() as u64)?;
        self.bytes += bytes.len() as u64;
        self.add(path, Entry::File(Arc::new(Blob::new(bytes))))
    }

    fn add_copy(&mut self, path: &str, of: &str) -> Result<(), ImageError> {
        let blob = match self.entries.get(&normal(of)?) {
            Some(Entry::File(blob)) => Arc::clone(blob),
            _ => return Err(ImageError::Conflict(path.to_owned())),
        };
        self.check_room(blob.bytes().len() as u64)?;
        self.bytes += blob.bytes().len() as u64;
        self.add(path, Entry::File(blob))
    }

    /// A link may lead through directories of the image, never above its root.
    fn add_symlink(&mut self, path: &str, target: &str) -> Result<(), ImageError> {
        let place = normal(path)?;
        let escape = || ImageError::Escape(format!("{path} -> {target}"));
        if target.is_empty() || target.len() > MAX_PATH_BYTES || target.contains('\0') {
            return Err(ImageError::Path(target.to_owned()));
        }
        if target.starts_with('/') {
            return Err(escape());
        }
        let mut depth = place.matches('/').count();
        for name in target.split('/').filter(|name| !name.is_empty() && *name != ".") {
            depth = match name {
                ".." => depth.checked_sub(1).ok_or_else(escape)?,
                _ => depth + 1,
            };
        }
        self.add(&place, Entry::Symlink(target.into()))
    }

    fn add_directory(&mut self, path: &str) -> Result<(), ImageError> {
        let path = normal(path)?;
        // The root of the image is there already, and so may be a parent of what came before.
        if path.is_empty() || matches!(self.entries.get(&path), Some(Entry::Directory)) {
            return Ok(());
        }
        self.add(&path, Entry::Directory)
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<(), ImageError> {
        let path = normal(path)?;
        if path.is_empty() {
            return Err(ImageError::Path(path));
        }
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            match self.entries.get(parent) {
                Some(Entry::Directory) => {}
                Some(_) => return Err(ImageError::Conflict(path)),
                None => {
                    self.entries.insert(parent.to_owned(), Entry::Directory);
                }
            }
        }
        if self.entries.contains_key(&path) {
            return Err(ImageError::Conflict(path));
        }
        self.entries.insert(path, entry);
        if self.entries.len() > Image::MAX_ENTRIES { Err(ImageError::Entries) } else { Ok(()) }
    }

    fn check_room(&self, bytes: u64) -> Result<(), ImageError> {
        if bytes > Image::MAX_BYTES - self.bytes { Err(ImageError::Bytes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::fs::{FileSystem, Usage, Work};

    fn files(files: &[(&str, &str)]) -> Result<Image, ImageError> {
        Image::from_files(files.iter().map(|(path, bytes)| (*path, bytes.as_bytes())))
    }

    /// An archive of raw headers, so that also what no honest writer writes is in reach.
    fn archive(entries: &[(&str, EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, link, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            let raw = header.as_old_mut();
            raw.name[..path.len()].copy_from_slice(path.as_bytes());
            raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            builder.append(&header, bytes.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_image_has_one_digest() {
        let image = files(&[("a/b", "1"), ("./a//c", "2")]).unwrap();
        assert_eq!(image, files(&[("a/c", "2"), ("a/b", "1")]).unwrap());
        assert_eq!(image.paths().collect::<Vec<_>>(), ["a", "a/b", "a/c"]);
        assert_eq!(image.read("a/c"), Some(&b"2"[..]));
        assert_eq!((image.read("a"), image.bytes()), (None, 2));
        let others = [
            &[("a/b", "1")][..],
            &[("a/b", "1"), ("a/c", "3")],
            &[("a/b", "2"), ("a/c", "1")],
            &[("ab", "1")],
        ];
        for other in others {
            assert_ne!(image, files(other).unwrap());
        }
        let packed = archive(&[
            ("a/", EntryType::Directory, "", ""),
            ("a/b", EntryType::Regular, "", "1"),
            ("a/c", EntryType::Regular, "", "2"),
        ]);
        assert_eq!(Image::from_tar(&packed).unwrap(), image);
    }

    #[test]
    fn paths_stay_within() {
        for path in ["/a", "../a", "a/../../b", "a/.."] {
            assert_eq!(files(&[(path, "")]), Err(ImageError::Escape(path.to_owned())));
            let packed = archive(&[(path, EntryType::Regular, "", "")]);
            assert_eq!(Image::from_tar(&packed), Err(ImageError::Escape(path.to_owned())));
        }
        for (path, target) in [("l", "/etc"), ("l", ".."), ("a/l", "../../b"), ("a/l", "x/../../../y")] {
            let packed = archive(&[(path, EntryType::Symlink, target, "")]);
            assert_eq!(Image::from_tar(&packed), Err(ImageError::Escape(format!("{path} -> {target}"))));
        }
        let packed = archive(&[("a/l", EntryType::Symlink, "../b", "")]);
        assert_eq!(Image::from_tar(&packed).unwrap().paths().count(), 2);
        for path in ["", ".", "a\0", &"n".repeat(256)] {
            assert!(matches!(files(&[(path, "")]), Err(ImageError::Path(_))), "{path:?}");
        }
    }

    #[test]
    fn nothing_is_in_the_way_of_another() {
        for pair in [["a", "a"], ["a", "a/b"], ["a/b", "a"]] {
            assert!(matches!(files(&pair.map(|path| (path, ""))), Err(ImageError::Conflict(_))), "{pair:?}");
        }
    }

    #[test]
    fn archives_are_bounded_and_plain() {
        for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::GNUSparse] {
            assert!(Image::from_tar(&archive(&[("x", kind, "", "")])).is_err(), "{kind:?}");
        }
        assert!(matches!(Image::from_tar(&[7; 2_000]), Err(ImageError::Archive(_))));
        let packed = archive(&[("x", EntryType::Regular, "", "0123456789")]);
        assert!(matches!(Image::from_tar(&packed[..515]), Err(ImageError::Archive(_))));
        // A header that claims more than there may be.
        let mut header = tar::Header::new_ustar();
        header.set_path("x").unwrap();
        header.set_size(Image::MAX_BYTES + 1);
        header.set_cksum();
        assert_eq!(Image::from_tar(header.as_bytes()), Err(ImageError::Bytes));
        // The same content many times takes as much of the limit as if it were many.
        let mib = "x".repeat(1 << 20);
        let mut bomb = vec![("f", EntryType::Regular, "", mib.as_str())];
        let names: Vec<String> = (0..256).map(|n| format!("l{n}")).collect();
        bomb.extend(names.iter().map(|name| (name.as_str(), EntryType::Link, "f", "")));
        assert_eq!(Image::from_tar(&archive(&bomb)), Err(ImageError::Bytes));
    }

    /// Headers of every kind with paths and targets of every kind.
    fn entry() -> impl Strategy<Value = (String, EntryType, String, String)> {
        let name = || select(vec!["a", "b", "c", "..", ".", "", "/", "a/b", "\u{e9}"]);
        let path = move || prop::collection::vec(name(), 0..4).prop_map(|names| names.join("/"));
        let kind = select(vec![
            EntryType::Regular,
            EntryType::Directory,
            EntryType::Symlink,
            EntryType::Link,
            EntryType::GNULongName,
            EntryType::XHeader,
            EntryType::Fifo,
        ]);
        (path(), kind, path(), "[ -~]{0,20}")
    }

    proptest! {
        /// What is taken is whole: every path is there once mounted, and nothing else.
        #[test]
        fn archives_of_any_headers(entries in prop::collection::vec(entry(), 0..8)) {
            let entries: Vec<_> =
                entries.iter().map(|(path, kind, link, bytes)| (&**path, *kind, &**link, &**bytes)).collect();
            let Ok(image) = Image::from_tar(&archive(&entries)) else { return Ok(()) };
            let mut files = FileSystem::new(Usage::default());
            let root = files.mount(&image, 1);
            for path in image.paths() {
                let work = &mut Work::new(u64::MAX);
                prop_assert!(files.find(root, path, false, work).is_ok(), "{}", path);
            }
            prop_assert_eq!(files.to_image(root), image);
            files.check();
        }
    }
}
