//! A directory: names in order, and cookies that neither creation nor removal of others moves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Ino;

/// Cookies of `.` and `..`; entries have larger ones.
pub(crate) const COOKIE_SELF: u64 = 1;
pub(crate) const COOKIE_PARENT: u64 = 2;
/// Distance of a new cookie from that of its neighbour at either end.
const STRIDE: u64 = 1 << 32;
/// Cookie of the first entry; half of the numbers are on either side.
const MIDDLE: u64 = 1 << 62;
/// Every cookie is below: some guests take them as signed.
const END: u64 = 1 << 63;

pub(super) struct Entry {
    pub(super) ino: Ino,
    /// Whether it counts against the quota of files, because the guest made it.
    pub(super) is_own: bool,
    cookie: u64,
}

/// Names and the inodes they stand for.
pub(super) struct Directory {
    pub(super) parent: Ino,
    entries: BTreeMap<Arc<str>, Entry>,
    /// Ascending as the names are.
    cookies: BTreeMap<u64, Arc<str>>,
}

impl Directory {
    pub(super) const fn new(parent: Ino) -> Self {
        Self { parent, entries: BTreeMap::new(), cookies: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Arc<str>, Ino)> {
        self.entries.iter().map(|(name, entry)| (name, entry.ino))
    }

    /// The first entry behind a cookie: its own cookie, name and inode.
    pub(super) fn after(&self, cookie: u64) -> Option<(u64, &str, Ino)> {
        let (cookie, name) = self.cookies.range((Bound::Excluded(cookie), Bound::Unbounded)).next()?;
        Some((*cookie, name, self.entries.get(name)?.ino))
    }

    /// Adds a name that is not there. Says how many entries it had to number anew.
    pub(super) fn insert(&mut self, name: Arc<str>, ino: Ino, is_own: bool) -> usize {
        let mut renumbered = 0;
        let cookie = self.free_cookie(&name).unwrap_or_else(|| {
            renumbered = self.renumber();
            self.free_cookie(&name).unwrap_or(END - 1)
        });
        self.cookies.insert(cookie, Arc::clone(&name));
        self.entries.insert(name, Entry { ino, is_own, cookie });
        renumbered
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.entries.remove(name)?;
        self.cookies.remove(&entry.cookie);
        Some(entry)
    }

    /// A cookie between those of the neighbours, if there is one left.
    fn free_cookie(&self, name: &str) -> Option<u64> {
        let before = self.entries.range::<str, _>((Bound::Unbounded, Bound::Excluded(name))).next_back();
        let after = self.entries.range::<str, _>((Bound::Excluded(name), Bound::Unbounded)).next();
        let (low, high) = match (before, after) {
            (None, None) => return Some(MIDDLE),
            (Some((_, last)), None) => return (last.cookie + STRIDE < END).then_some(last.cookie + STRIDE),
            (None, Some((_, first))) => {
                return first.cookie.checked_sub(STRIDE).filter(|cookie| *cookie > COOKIE_PARENT);
            }
            (Some((_, before)), Some((_, after))) => (before.cookie, after.cookie),
        };
        (high - low > 1).then_some(low + (high - low) / 2)
    }

    /// Spreads the cookies evenly; the one case in which they move. It takes 32 insertions into
    /// the same gap to get here. A policy grants far fewer entries than there are strides.
    fn renumber(&mut self) -> usize {
        let first = MIDDLE - self.entries.len() as u64 / 2 * STRIDE;
        self.cookies.clear();
        for ((name, entry), index) in self.entries.iter_mut().zip(0u64..) {
            entry.cookie = first + index * STRIDE;
            self.cookies.insert(entry.cookie, Arc::clone(name));
        }
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(directory: &Directory) -> Vec<String> {
        let mut cookie = COOKIE_PARENT;
        let mut names = Vec::new();
        while let Some((next, name, _)) = directory.after(cookie) {
            assert!(next > cookie && next < END);
            names.push(name.to_owned());
            cookie = next;
        }
        names
    }

    /// Up, down, and always into the same gap.
    #[test]
    fn the_order_is_that_of_the_names() {
        let orders: [fn(u32) -> String; 3] = [
            |n| format!("{n:05}"),
            |n| format!("{:05}", 9_999 - n),
            |n| if n == 0 { "b".to_owned() } else { format!("a{:05}", 9_999 - n) + "x" },
        ];
        for order in orders {
            let mut directory = Directory::new(0);
            directory.insert("a".into(), 0, true);
            for n in 0..500 {
                directory.insert(order(n).into(), 1, true);
            }
            let names = listed(&directory);
            assert_eq!(names.len(), 501);
            assert!(names.is_sorted());
        }
    }

    #[test]
    fn cookies_survive_removal_and_creation() {
        let mut directory = Directory::new(0);
        for name in ["b", "d", "f", "h"] {
            directory.insert(name.into(), 1, true);
        }
        let (first, ..) = directory.after(COOKIE_PARENT).unwrap();
        let (second, name, _) = directory.after(first).unwrap();
        assert_eq!(name, "d");
        directory.remove("d").unwrap();
        directory.insert("a".into(), 1, true);
        directory.insert("e".into(), 1, true);
        // What was there and still is comes next; what was created meanwhile may or may not.
        assert_eq!(directory.after(second).unwrap().1, "f");
    }
}
