use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use serde::{Deserialize, Serialize};

use crate::capsule::CapsuleId;

/// Another capsule that a capsule cannot run without, named by its id: the very bytes the
/// author tested with, whoever holds them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// How the payload refers to it: the module its functions are imported from, or a label.
    /// Lower-case letters, digits, `-`, `_` and `.`; 1 to 64 bytes, unique in a capsule.
    #[n(0)]
    pub name: String,
    /// The capsule.
    #[n(1)]
    pub capsule: CapsuleId,
    /// Absolute directory of the guest where the files of an image appear; absent for a library.
    #[n(2)]
    #[serde(default)]
    pub mount: Option<String>,
}

/// The list of dependencies: one section of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub(crate) struct Dependencies(#[n(0)] pub(crate) Vec<Dependency>);

impl Wire for Dependencies {
    const MAX_BYTES: usize = 8 * 1_024;
}

/// A list of dependencies that breaks a rule. Its author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DependencyError {
    /// More than [`Dependency::MAX`].
    #[error("{0} dependencies exceed the limit of {max}", max = Dependency::MAX)]
    TooMany(usize),
    /// A name of the wrong length or alphabet, or one that hosts use.
    #[error("dependency name {0:?} is malformed or taken by the host")]
    Name(String),
    /// Not sorted by name, or two of one name.
    #[error("dependencies are not sorted by distinct names")]
    Order,
    /// Not an absolute path of plain components.
    #[error("mount point {0:?} is not an absolute path of plain components")]
    Mount(String),
}

impl Dependency {
    /// Most dependencies of one capsule; bounds the work of one resolution step.
    pub const MAX: usize = 16;

    /// Longest mount point, in bytes.
    pub const MAX_MOUNT_BYTES: usize = 256;

    fn check(&self) -> Result<(), DependencyError> {
        let is_host = self.name == crate::HostCall::WASI_MODULE || self.name.starts_with("nonos");
        if is_host || !is_plain_name(&self.name) {
            return Err(DependencyError::Name(self.name.clone()));
        }
        match &self.mount {
            Some(mount) if !is_mount_point(mount) => Err(DependencyError::Mount(mount.clone())),
            _ => Ok(()),
        }
    }
}

/// The rule for names of capsules and dependencies.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

fn is_mount_point(path: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    path.len() <= Dependency::MAX_MOUNT_BYTES
        && (path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain)))
}

impl Dependencies {
    pub(crate) fn check(&self) -> Result<(), DependencyError> {
        if self.0.len() > Dependency::MAX {
            return Err(DependencyError::TooMany(self.0.len()));
        }
        if !self.0.is_sorted_by(|a, b| a.name < b.name) {
            return Err(DependencyError::Order);
        }
        self.0.iter().try_for_each(Dependency::check)
    }
}

#[cfg(test)]
mod tests {
    use nonos_identity::{WideDigest, wire};

    use super::*;

    fn dependency(name: &str, mount: Option<&str>) -> Dependency {
        let capsule = CapsuleId::from_digest(WideDigest::of_bytes(name.as_bytes()));
        Dependency { name: name.to_owned(), capsule, mount: mount.map(str::to_owned) }
    }

    fn check(list: Vec<Dependency>) -> Result<(), DependencyError> {
        Dependencies(list).check()
    }

    #[test]
    fn names_are_plain_and_not_the_hosts() {
        assert_eq!(check(vec![dependency("zlib", None)]), Ok(()));
        for name in ["", "Zlib", "a/b", "wasi_snapshot_preview1", "nonos_1", "nonos"] {
            assert_eq!(check(vec![dependency(name, None)]), Err(DependencyError::Name(name.to_owned())));
        }
    }

    #[test]
    fn a_list_is_sorted_without_repetition() {
        let (a, b) = (dependency("a", None), dependency("b", None));
        assert_eq!(check(vec![a.clone(), b.clone()]), Ok(()));
        assert_eq!(check(vec![b, a.clone()]), Err(DependencyError::Order));
        assert_eq!(check(vec![a.clone(), a.clone()]), Err(DependencyError::Order));
        assert_eq!(check(vec![a; 17]), Err(DependencyError::TooMany(17)));
    }

    #[test]
    fn mount_points_are_absolute_and_do_not_climb() {
        for good in ["/", "/usr", "/usr/lib/python3.11"] {
            assert_eq!(check(vec![dependency("a", Some(good))]), Ok(()), "{good}");
        }
        for bad in ["", "usr", "//", "/usr/", "/usr//lib", "/../etc", "/./a", &"/x".repeat(200)] {
            let refused = Err(DependencyError::Mount(bad.to_owned()));
            assert_eq!(check(vec![dependency("a", Some(bad))]), refused, "{bad}");
        }
    }

    #[test]
    fn the_longest_list_fits_its_section() {
        let mount = format!("/{}", "m".repeat(Dependency::MAX_MOUNT_BYTES - 1));
        let list = (0..16).map(|n| dependency(&format!("{n:064}"), Some(&mount))).collect();
        let list = Dependencies(list);
        assert_eq!(list.check(), Ok(()));
        assert_eq!(wire::from_bytes::<Dependencies>(&wire::to_bytes(&list)), Ok(list));
    }
}
