//! The bytes of a file: shared with an image until the first change, hashed page by page.

use std::sync::Arc;

use super::commit::{Leaf, Node, page};

/// Page of a leaf, in bytes: as small as memory's, so that a small write costs a small hash.
const PAGE_BYTES: usize = 4_096;

/// Bytes of an image with the hashes of their pages, which every run that mounts it shares.
pub(super) struct Blob {
    bytes: Arc<[u8]>,
    pages: Vec<Leaf>,
    root: Leaf,
}

impl Blob {
    pub(super) fn new(bytes: Arc<[u8]>) -> Self {
        let pages: Vec<Leaf> = bytes.chunks(PAGE_BYTES).map(page).collect();
        let root = root(bytes.len(), pages.iter());
        Self { bytes, pages, root }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn root(&self) -> &Leaf {
        &self.root
    }
}

/// What a file holds.
pub(super) enum Content {
    Shared(Arc<Blob>),
    Own {
        bytes: Vec<u8>,
        /// One for each page; `None` after a change, until the next commitment.
        pages: Vec<Option<Leaf>>,
    },
}

impl Content {
    pub(super) const fn empty() -> Self {
        Self::Own { bytes: Vec::new(), pages: Vec::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(blob) => blob.bytes(),
            Self::Own { bytes, .. } => bytes,
        }
    }

    /// Bytes that the first change copies when it keeps `kept` of them.
    pub(super) fn copied_by_change(&self, kept: usize) -> usize {
        match self {
            Self::Shared(blob) => blob.bytes().len().min(kept),
            Self::Own { .. } => 0,
        }
    }

    /// Sets the length; what is new is zero.
    pub(super) fn resize(&mut self, len: usize) {
        let (bytes, pages) = self.own(len);
        let touched = bytes.len().min(len) / PAGE_BYTES;
        bytes.resize(len, 0);
        pages.resize(len.div_ceil(PAGE_BYTES), None);
        for page in pages.iter_mut().skip(touched) {
            *page = None;
        }
    }

    /// Replaces bytes within the length; what lies beyond it is dropped.
    pub(super) fn write(&mut self, at: usize, data: &[u8]) {
        let len = self.bytes().len();
        let (bytes, pages) = self.own(len);
        let end = at.saturating_add(data.len()).min(len);
        if let (Some(place), Some(data)) = (bytes.get_mut(at..end), data.get(..end.saturating_sub(at))) {
            place.copy_from_slice(data);
        }
        for page in pages.get_mut(at / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).unwrap_or_default() {
            *page = None;
        }
    }

    /// Makes the bytes this file's own, the first `kept` of them.
    fn own(&mut self, kept: usize) -> (&mut Vec<u8>, &mut Vec<Option<Leaf>>) {
        if let Self::Shared(blob) = self {
            let bytes = blob.bytes().get(..kept).unwrap_or(blob.bytes()).to_vec();
            let count = bytes.len().div_ceil(PAGE_BYTES);
            let mut pages: Vec<_> = blob.pages.iter().take(count).copied().map(Some).collect();
            // A cut within a page leaves it with another hash.
            if bytes.len() < blob.bytes().len()
                && let Some(last) = pages.last_mut()
            {
                *last = None;
            }
            *self = Self::Own { bytes, pages };
        }
        match self {
            Self::Own { bytes, pages } => (bytes, pages),
            Self::Shared(_) => unreachable!("made its own above"),
        }
    }

    /// The commitment to length and bytes; hashes only the pages that changed.
    pub(super) fn root(&mut self) -> Leaf {
        match self {
            Self::Shared(blob) => *blob.root(),
            Self::Own { bytes, pages } => {
                let leaves = bytes
                    .chunks(PAGE_BYTES)
                    .zip(pages)
                    .map(|(bytes, leaf)| &*leaf.get_or_insert_with(|| page(bytes)));
                root(bytes.len(), leaves)
            }
        }
    }

    /// The bytes as an image keeps them.
    pub(super) fn to_blob(&self) -> Arc<Blob> {
        match self {
            Self::Shared(blob) => Arc::clone(blob),
            Self::Own { bytes, .. } => Arc::new(Blob::new(bytes.as_slice().into())),
        }
    }
}

fn root<'a>(len: usize, leaves: impl Iterator<Item = &'a Leaf>) -> Leaf {
    let mut node = Node::new(b"file");
    node.number(len as u64);
    for leaf in leaves {
        node.raw(leaf);
    }
    node.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(bytes: &[u8]) -> Content {
        Content::Shared(Arc::new(Blob::new(bytes.into())))
    }

    proptest! {
        /// Whatever happened before, the commitment is that of the bytes alone, and the bytes
        /// are those of a plain vector.
        #[test]
        fn changes_are_those_of_a_vector(
            start in prop::collection::vec(any::<u8>(), 0..9_000),
            is_shared in any::<bool>(),
            steps in prop::collection::vec((0usize..12_000, 0usize..6_000, any::<u8>(), any::<bool>()), 0..8),
        ) {
            let mut content = if is_shared { shared(&start) } else { Content::empty() };
            let mut model = if is_shared { start } else { Vec::new() };
            for (at, len, byte, is_cut) in steps {
                if is_cut {
                    content.resize(at);
                    model.resize(at, 0);
                } else {
                    let end = at + len;
                    if end > model.len() {
                        content.resize(end);
                        model.resize(end, 0);
                    }
                    content.write(at, &vec![byte; len]);
                    model[at..end].fill(byte);
                }
                prop_assert_eq!(content.bytes(), &model[..]);
                prop_assert_eq!(content.root(), shared(&model).root());
            }
        }
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let bytes = vec![0; 10_000];
        let root = shared(&bytes).root();
        assert_ne!(root, shared(&bytes[1..]).root());
        for place in [0, 4_095, 4_096, 9_999] {
            let mut changed = bytes.clone();
            changed[place] = 1;
            assert_ne!(root, shared(&changed).root(), "byte {place}");
        }
    }
}
