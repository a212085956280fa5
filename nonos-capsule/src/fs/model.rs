//! The file system against a map of paths, and its paths against their directory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Model {
    Directory,
    File(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Create(String),
    CreateDirectory(String),
    Write(String, u16, u8, u16),
    Resize(String, u16),
    Unlink(String),
    RemoveDirectory(String),
    Rename(String, String),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

type Map = BTreeMap<String, Model>;

/// Errors of a path whose parent is not a directory.
fn walk(map: &Map, path: &str) -> Result<(), FsError> {
    let mut at = String::new();
    for name in parent(path).split('/').filter(|name| !name.is_empty()) {
        at = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
        match map.get(&at) {
            Some(Model::Directory) => {}
            Some(Model::File(_)) => return Err(FsError::NotDirectory),
            None => return Err(FsError::NotFound),
        }
    }
    Ok(())
}

fn has_children(map: &Map, path: &str) -> bool {
    map.keys().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
}

fn file<'a>(map: &'a mut Map, path: &str) -> Result<&'a mut Vec<u8>, FsError> {
    walk(map, path)?;
    match map.get_mut(path) {
        Some(Model::File(bytes)) => Ok(bytes),
        Some(Model::Directory) => Err(FsError::IsDirectory),
        None => Err(FsError::NotFound),
    }
}

fn apply_to_model(map: &mut Map, step: &Step) -> Result<(), FsError> {
    match step {
        Step::Create(path) => {
            walk(map, path)?;
            match map.get(path) {
                Some(Model::Directory) => return Err(FsError::IsDirectory),
                Some(Model::File(_)) => {}
                None => drop(map.insert(path.clone(), Model::File(Vec::new()))),
            }
        }
        Step::CreateDirectory(path) => {
            walk(map, path)?;
            if map.contains_key(path) {
                return Err(FsError::Exists);
            }
            map.insert(path.clone(), Model::Directory);
        }
        Step::Write(path, at, byte, len) => {
            let bytes = file(map, path)?;
            let (at, end) = (usize::from(*at), usize::from(*at) + usize::from(*len));
            if *len > 0 {
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].fill(*byte);
            }
        }
        Step::Resize(path, len) => file(map, path)?.resize(usize::from(*len), 0),
        Step::Unlink(path) => {
            file(map, path)?;
            map.remove(path);
        }
        Step::RemoveDirectory(path) => {
            walk(map, path)?;
            match map.get(path) {
                None => return Err(FsError::NotFound),
                Some(Model::File(_)) => return Err(FsError::NotDirectory),
                Some(Model::Directory) if has_children(map, path) => return Err(FsError::NotEmpty),
                Some(Model::Directory) => drop(map.remove(path)),
            }
        }
        Step::Rename(from, to) => {
            walk(map, from)?;
            let moving = map.get(from).cloned().ok_or(FsError::NotFound)?;
            walk(map, to)?;
            if moving == Model::Directory && (to == from || to.starts_with(&format!("{from}/"))) {
                return if to == from { Ok(()) } else { Err(FsError::Invalid) };
            }
            match (map.get(to), &moving) {
                (Some(_), _) if to == from => return Ok(()),
                (Some(Model::Directory), Model::File(_)) => return Err(FsError::IsDirectory),
                (Some(Model::Directory), Model::Directory) if has_children(map, to) => {
                    return Err(FsError::NotEmpty);
                }
                (Some(Model::File(_)), Model::Directory) => return Err(FsError::NotDirectory),
                _ => {}
            }
            let prefix = format!("{from}/");
            let moved: Vec<_> =
                map.extract_if(.., |path, _| path == from || path.starts_with(&prefix)).collect();
            for (path, node) in moved {
                map.insert(path.replacen(from.as_str(), to, 1), node);
            }
        }
    }
    Ok(())
}

fn apply(files: &mut FileSystem, root: Ino, step: &Step, work: &mut Work) -> Result<(), FsError> {
    let open = |files: &mut FileSystem, path: &str, create, work: &mut Work| {
        let how = Open { create, write: true, ..Open::default() };
        files.open(root, path, how, 5, work)
    };
    match step {
        Step::Create(path) => open(files, path, true, work).map(drop),
        Step::CreateDirectory(path) => files.create_directory(root, path, 5, work),
        Step::Write(path, at, byte, len) => {
            let ino = open(files, path, false, work)?;
            if *len > 0 {
                files.prepare_write(ino, u64::from(*at), u64::from(*len), 5, work)?;
                files.write(ino, u64::from(*at), &vec![*byte; usize::from(*len)]);
            }
            Ok(())
        }
        Step::Resize(path, len) => {
            let ino = open(files, path, false, work)?;
            files.resize(ino, u64::from(*len), 5, work)
        }
        Step::Unlink(path) => files.unlink(root, path, 5, work),
        Step::RemoveDirectory(path) => files.remove_directory(root, path, 5, work),
        Step::Rename(from, to) => files.rename((root, from), (root, to), 5, work),
    }
}

/// What is there, through the public way out.
fn listed(files: &FileSystem, root: Ino) -> Map {
    let image = files.to_image(root);
    let entry = |path: &str| match image.read(path) {
        Some(bytes) => Model::File(bytes.to_vec()),
        None => Model::Directory,
    };
    image.paths().map(|path| (path.to_owned(), entry(path))).collect()
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        path().prop_map(Step::Create),
        path().prop_map(Step::CreateDirectory),
        (path(), 0..9_000u16, any::<u8>(), 0..5_000u16)
            .prop_map(|(p, at, b, len)| Step::Write(p, at, b, len)),
        (path(), 0..9_000u16).prop_map(|(path, len)| Step::Resize(path, len)),
        path().prop_map(Step::Unlink),
        path().prop_map(Step::RemoveDirectory),
        (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
    ]
}

const ROOM: Usage = Usage { bytes: 1 << 30, files: 1 << 17 };

fn image(files: &[&str]) -> Image {
    Image::from_files(files.iter().map(|path| (*path, path.as_bytes()))).unwrap()
}

proptest! {
    #[test]
    fn it_is_a_map_of_paths(steps in prop::collection::vec(step(), 0..60)) {
        let mut files = FileSystem::new(ROOM);
        let root = files.mount(&image(&["a/b/c", "b"]), 1);
        let mut map = listed(&files, root);
        for step in &steps {
            let expected = apply_to_model(&mut map, step);
            prop_assert_eq!(apply(&mut files, root, step, &mut Work::new(u64::MAX)), expected, "{:?}", step);
            files.check();
        }
        prop_assert_eq!(listed(&files, root), map);
    }

    /// A small quota and little gas: every step is refused or done whole, and the sums stay
    /// true. The tree under a mounted image is what a fresh mount of its image has.
    #[test]
    fn quotas_and_gas_hold(
        steps in prop::collection::vec((step(), 0..20_000u64), 0..40),
        bytes in 0..6_000u64,
        entries in 0..5u64,
    ) {
        let mut files = FileSystem::new(Usage { bytes, files: entries });
        let root = files.mount(&image(&["a/b/c", "b"]), 1);
        for (step, gas) in &steps {
            let before = listed(&files, root);
            let mut work = Work::new(*gas);
            let result = apply(&mut files, root, step, &mut work);
            prop_assert_eq!(result == Err(FsError::OutOfGas), work.spent() > *gas);
            if !matches!(step, Step::Write(..)) && result.is_err() {
                prop_assert_eq!(listed(&files, root), before, "{:?}", step);
            }
            files.check();
        }
        let again = files.to_image(root);
        let mut fresh = FileSystem::new(ROOM);
        let fresh_root = fresh.mount(&again, 1);
        prop_assert_eq!(fresh.to_image(fresh_root), again);
    }

    /// Whatever links there are and however directories move, a path ends within the directory
    /// it is relative to.
    #[test]
    fn paths_do_not_escape(
        links in prop::collection::vec((path(), path_with_dots()), 0..6),
        moves in prop::collection::vec((path(), path()), 0..4),
        asked in prop::collection::vec(path_with_dots(), 1..20),
    ) {
        let mut files = FileSystem::new(ROOM);
        let root = files.mount(&image(&["secret", "jail/a/b/c", "jail/b/a"]), 1);
        files.mount(&image(&["other"]), 1);
        let work = &mut Work::new(u64::MAX);
        let jail = files.find(root, "jail", false, work).unwrap().ino;
        for (path, target) in &links {
            let _ = files.symlink(target, jail, path, 1, work);
        }
        for (from, to) in &moves {
            let _ = files.rename((jail, from), (jail, to), 1, work);
        }
        for path in &asked {
            let how = Open { create: true, follow: true, ..Open::default() };
            let _ = files.open(jail, path, how, 1, work);
            let _ = files.create_directory(jail, path, 1, work);
        }
        let mut within = std::collections::BTreeSet::from([jail]);
        let mut ahead = vec![jail];
        while let Some(ino) = ahead.pop() {
            let Ok(directory) = files.directory(ino) else { continue };
            for (_, ino) in directory.entries() {
                within.insert(ino);
                ahead.push(ino);
            }
        }
        for path in &asked {
            if let Ok(stat) = files.find(jail, path, true, work) {
                prop_assert!(within.contains(&stat.ino), "{}", path);
            }
        }
        let names: Vec<_> = files.directory(root).unwrap().entries().map(|(name, _)| name.to_string()).collect();
        prop_assert_eq!(names, ["jail", "secret"]);
    }
}

fn path_with_dots() -> impl Strategy<Value = String> {
    let name = select(vec!["a", "b", "c", "..", "..", ".", "", "secret", "jail"]);
    prop::collection::vec(name, 1..8).prop_map(|names| names.join("/"))
}

fn fresh() -> (FileSystem, Ino, Work) {
    let mut files = FileSystem::new(ROOM);
    let root = files.mount(&image(&["a/file"]), 1);
    (files, root, Work::new(u64::MAX))
}

#[test]
fn without_a_directory_there_is_nothing_to_commit_to() {
    let mut files = FileSystem::new(ROOM);
    assert_eq!((files.root(), files.footprint_pages()), (None, 0));
    files.mount(&Image::default(), 0);
    assert!(files.root().is_some());
}

#[test]
fn every_change_moves_the_root() {
    let (mut files, root, mut work) = fresh();
    let mut roots = vec![files.root()];
    let file = files.find(root, "a/file", false, &mut work).unwrap().ino;
    type Change<'a> = &'a dyn Fn(&mut FileSystem, &mut Work);
    let changes: [Change<'_>; 8] = [
        &|files, work| files.prepare_write(file, 0, 1, 1, work).map(|()| files.write(file, 0, b"x")).unwrap(),
        &|files, work| files.resize(file, 9_000, 1, work).unwrap(),
        &|files, work| files.symlink("a", root, "link", 1, work).unwrap(),
        &|files, work| files.link((root, "a/file"), (root, "again"), 1, work).unwrap(),
        &|files, work| files.rename((root, "again"), (root, "other"), 1, work).unwrap(),
        &|files, work| files.unlink(root, "link", 1, work).unwrap(),
        &|files, work| files.create_directory(root, "d", 1, work).unwrap(),
        &|files, _| files.set_times(file, Some(3), None, 1).unwrap(),
    ];
    for change in changes {
        change(&mut files, &mut work);
        let root = files.root();
        assert!(!roots.contains(&root));
        assert_eq!(files.root(), root);
        roots.push(root);
        files.check();
    }
    let _ = files.read(file, 0, 100).unwrap();
    assert_eq!(files.root(), *roots.last().unwrap(), "reading changes nothing");
}

/// What a checkpoint has to hash makes the next one later, whatever it is made of.
#[test]
fn bytes_files_and_links_lengthen_the_interval() {
    let (mut files, root, mut work) = fresh();
    assert_eq!(files.footprint_pages(), 0);
    let file = files.find(root, "a/file", false, &mut work).unwrap().ino;
    files.resize(file, 10 << 16, 1, &mut work).unwrap();
    assert_eq!(files.footprint_pages(), 10);
    for n in 0..160 {
        files.link((root, "a/file"), (root, &format!("l{n}")), 1, &mut work).unwrap();
    }
    assert_eq!(files.footprint_pages(), 20);
    for n in 0..160 {
        files.create_directory(root, &format!("d{n}"), 1, &mut work).unwrap();
    }
    assert_eq!(files.footprint_pages(), 40);
}

#[test]
fn what_is_open_stays_until_it_is_closed() {
    let (mut files, root, mut work) = fresh();
    let ino = files.open(root, "x", Open { create: true, ..Open::default() }, 1, &mut work).unwrap();
    files.retain(ino);
    files.resize(ino, 500, 1, &mut work).unwrap();
    files.unlink(root, "x", 1, &mut work).unwrap();
    assert_eq!(files.stat(ino).unwrap().links, 0);
    assert_eq!(files.used(), Usage { bytes: 500, files: 0 });
    files.check();
    files.release(ino);
    assert_eq!(files.stat(ino), Err(FsError::NotFound));
    assert_eq!(files.used(), Usage::default());
    // Nothing can be made in a directory that was removed.
    files.create_directory(root, "d", 1, &mut work).unwrap();
    let directory = files.find(root, "d", false, &mut work).unwrap().ino;
    files.retain(directory);
    files.remove_directory(root, "d", 1, &mut work).unwrap();
    assert_eq!(files.create_directory(directory, "e", 1, &mut work), Err(FsError::NotFound));
    files.check();
}

#[test]
fn growth_meets_the_quota_before_it_takes_memory() {
    let mut files = FileSystem::new(Usage { bytes: 1_000, files: 10 });
    let root = files.mount(&image(&["file"]), 1);
    let work = &mut Work::new(u64::MAX);
    let ino = files.open(root, "x", Open { create: true, ..Open::default() }, 1, work).unwrap();
    for len in [1_001, 1 << 40, u64::MAX] {
        assert_eq!(files.resize(ino, len, 1, work), Err(FsError::NoSpace));
        assert_eq!(files.prepare_write(ino, len - 1, 1, 1, work), Err(FsError::NoSpace));
    }
    assert_eq!(files.prepare_write(ino, u64::MAX, 1, 1, work), Err(FsError::TooLarge));
    files.resize(ino, 1_000, 1, work).unwrap();
    // The file of the image counts from its first change on.
    let shared = files.find(root, "file", false, work).unwrap().ino;
    assert_eq!(files.prepare_write(shared, 0, 1, 1, work), Err(FsError::NoSpace));
    files.resize(ino, 996, 1, work).unwrap();
    files.prepare_write(shared, 0, 1, 1, work).unwrap();
    assert_eq!(files.used().bytes, 1_000);
    // Gas that does not cover the zeros leaves the file as it was.
    files.resize(ino, 0, 1, work).unwrap();
    assert_eq!(files.resize(ino, 900, 1, &mut Work::new(899)), Err(FsError::OutOfGas));
    assert_eq!(files.stat(ino).unwrap().size, 0);
    files.check();
}

#[test]
fn loops_of_links_end_and_are_paid() {
    let (mut files, root, mut work) = fresh();
    files.symlink("y", root, "x", 1, &mut work).unwrap();
    files.symlink("x", root, "y", 1, &mut work).unwrap();
    assert_eq!(files.find(root, "x", true, &mut work), Err(FsError::Loop));
    // The longest walk: every link is as long as a path can be.
    let long = format!("{}x", "./".repeat(2_040));
    files.unlink(root, "x", 1, &mut work).unwrap();
    files.symlink(&long, root, "x", 1, &mut work).unwrap();
    let mut little = Work::new(100_000);
    assert_eq!(files.find(root, "x", true, &mut little), Err(FsError::OutOfGas));
    assert!(little.spent() < 110_000, "it stops at once");
}
