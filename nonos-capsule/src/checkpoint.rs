//! The chain of checkpoints: what a run commits to while it goes.
//!
//! ```text
//! cp_0      = H(genesis, capsule id | policy digest | nonce | input digest | instrument version | gas schedule)
//! cp_k      = H(checkpoint, cp_{k-1}, k | gas used | memory pages | stack slots, memory root, globals, host log,
//!               file system root, or nothing without files)
//! exec_hash = H(execution, cp_last | output digest | stderr digest | gas used | peak pages | host calls | count,
//!               status, inbound)
//! ```
//! `H` is SHA3-512 over length-prefixed fields under a domain; `|` joins parts of fixed length
//! to one field. Memory is committed in logical pages of 4 KiB whatever the machine's are: a leaf
//! is the keyed BLAKE3 of the page, sixteen of them hash to the node of a 64 KiB page under
//! another key, and the root is `H` over the nodes. The host log is SHA3-256 over a record of each
//! call: number, outcome, gas used, errno, operands; and over what the mesh answered. A run with
//! libraries has several memories: their pages are counted together, the memory root is the hash
//! over their roots in the order of the instances, and globals follow one another in that order.
//! Locals and operands are not committed; between two checkpoints determinism implies them.

use std::sync::LazyLock;

use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, WideDigest};

use crate::capsule::CapsuleId;
use crate::domains::{CHECKPOINT, EXECUTION, GENESIS, MEMORY};
use crate::execution::{Execution, Status};
use crate::fs;
use crate::instrument;

/// Page of a leaf, in bytes.
const PAGE_BYTES: usize = 4_096;
/// Page of WASM, in bytes: sixteen leaves.
pub(crate) const WASM_PAGE_BYTES: usize = 65_536;
const LEAVES_PER_NODE: usize = WASM_PAGE_BYTES / PAGE_BYTES;

/// Keyed BLAKE3 of a page, or of the leaves of a node.
type Hash = [u8; 32];

/// State of a run at a checkpoint.
pub(crate) struct Moment<'a> {
    pub(crate) gas_used: u64,
    /// Pages of 64 KiB of all memories.
    pub(crate) pages: u64,
    /// The root of each memory, in the order of the instances.
    pub(crate) memories: &'a [WideDigest],
    pub(crate) globals: &'a [u8],
    pub(crate) depth: i32,
    pub(crate) host_log: Digest,
    /// `None` if the run has no file system.
    pub(crate) files: Option<fs::Leaf>,
}

/// The chain so far.
pub(crate) struct Chain {
    links: Vec<WideDigest>,
}

/// What the root of a memory takes to hash only the pages that changed.
#[derive(Default)]
pub(crate) struct MemoryTree {
    /// The memory as of the last checkpoint.
    shadow: Vec<u8>,
    leaves: Vec<Hash>,
    nodes: Vec<Hash>,
}

static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let [leaf, node] = [&b"leaf"[..], b"node"].map(|name| *Digest::of(MEMORY, &[name]).as_bytes());
    let zero_leaf = *blake3::keyed_hash(&leaf, &ZERO_PAGE).as_bytes();
    let zero_node = *blake3::keyed_hash(&node, [zero_leaf; LEAVES_PER_NODE].as_flattened()).as_bytes();
    Keys { leaf, node, zero_leaf, zero_node }
});

struct Keys {
    leaf: Hash,
    node: Hash,
    /// The hashes of memory that nobody touched.
    zero_leaf: Hash,
    zero_node: Hash,
}

impl Chain {
    pub(crate) fn new(genesis: WideDigest) -> Self {
        Self { links: vec![genesis] }
    }

    pub(crate) fn push(&mut self, moment: &Moment<'_>) {
        let last = self.links.last().map_or(&[][..], |link| link.as_bytes());
        let mut figures = [0; 28];
        let (counts, depth) = figures.split_at_mut(24);
        let numbers = [self.links.len() as u64, moment.gas_used, moment.pages];
        counts.copy_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
        depth.copy_from_slice(&moment.depth.to_le_bytes());
        let link = WideDigest::of(
            CHECKPOINT,
            &[
                last,
                &figures,
                memory_root(moment.memories).as_bytes(),
                moment.globals,
                moment.host_log.as_bytes(),
                moment.files.as_ref().map_or(&[][..], |root| root),
            ],
        );
        self.links.push(link);
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn into_links(self) -> Vec<WideDigest> {
        self.links
    }
}

/// The root of one memory is that of the run.
fn memory_root(roots: &[WideDigest]) -> WideDigest {
    match roots {
        [root] => *root,
        roots => {
            let roots = roots.iter().map(|root| &root.as_bytes()[..]);
            WideDigest::of(MEMORY, &core::iter::once(&b"memories"[..]).chain(roots).collect::<Vec<_>>())
        }
    }
}

impl MemoryTree {
    /// The root now. After the last one there is no copy of the memory to compare with.
    pub(crate) fn root(&mut self, memory: &[u8], is_last: bool) -> WideDigest {
        let keys = &*KEYS;
        if !is_last {
            self.shadow.resize(memory.len(), 0);
        }
        self.leaves.resize(memory.len().div_ceil(PAGE_BYTES), keys.zero_leaf);
        self.nodes.resize(memory.len().div_ceil(WASM_PAGE_BYTES), keys.zero_node);
        let mut shadow = self.shadow.chunks_mut(PAGE_BYTES);
        let leaves = self.leaves.chunks_mut(LEAVES_PER_NODE);
        for ((now, leaves), node) in memory.chunks(WASM_PAGE_BYTES).zip(leaves).zip(&mut self.nodes) {
            let mut is_dirty = false;
            for (now, leaf) in now.chunks(PAGE_BYTES).zip(leaves.iter_mut()) {
                // A page without a copy was not there at the last checkpoint, or is the first's.
                let then = shadow.next();
                if now == then.as_deref().unwrap_or(&ZERO_PAGE) {
                    continue;
                }
                *leaf = *blake3::keyed_hash(&keys.leaf, now).as_bytes();
                if let (Some(then), false) = (then, is_last) {
                    then.copy_from_slice(now);
                }
                is_dirty = true;
            }
            if is_dirty {
                *node = *blake3::keyed_hash(&keys.node, leaves.as_flattened()).as_bytes();
            }
        }
        WideDigest::of(MEMORY, &[b"root", self.nodes.as_flattened()])
    }
}

/// The first link: everything that decides the run.
pub(crate) fn genesis(
    capsule: &CapsuleId,
    policy_digest: &WideDigest,
    nonce: &[u8; 32],
    input_digest: &WideDigest,
) -> WideDigest {
    let parts: [&[u8]; 6] = [
        capsule.as_bytes(),
        policy_digest.as_bytes(),
        nonce,
        input_digest.as_bytes(),
        &instrument::VERSION.to_le_bytes(),
        &instrument::GAS_SCHEDULE.to_le_bytes(),
    ];
    WideDigest::of(GENESIS, &[&parts.concat()])
}

impl Wire for Status {
    const MAX_BYTES: usize = 16;
}

impl Execution {
    /// Recomputes the hash from the other fields: what a receiver checks before it believes
    /// that output, status and figures belong to the hash.
    #[must_use]
    pub fn compute_hash(&self) -> WideDigest {
        let last = self.checkpoints.last().map_or(&[0; 64], |link| link.as_bytes());
        let stderr_digest = WideDigest::of_bytes(&self.stderr);
        let parts: [&[u8]; 9] = [
            last,
            self.output_digest.as_bytes(),
            stderr_digest.as_bytes(),
            &self.gas_used.to_le_bytes(),
            &self.peak_pages.to_le_bytes(),
            &self.host_calls.bits().to_le_bytes(),
            &self.cpu_features.bits().to_le_bytes(),
            &self.isolation.bits().to_le_bytes(),
            &(self.checkpoints.len() as u64).to_le_bytes(),
        ];
        let inbound = minicbor::to_vec(&self.inbound).unwrap_or_default();
        WideDigest::of(EXECUTION, &[&parts.concat(), &wire::to_bytes(&self.status), &inbound])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(tree: &mut MemoryTree, memory: &[u8]) -> WideDigest {
        tree.root(memory, false)
    }

    fn fresh() -> MemoryTree {
        MemoryTree::default()
    }

    #[test]
    fn incremental_roots_equal_fresh_ones() {
        let mut tree = fresh();
        let mut memory = vec![0; 2 * WASM_PAGE_BYTES];
        for (place, len) in [(0, 2), (70_000, 2), (131_071, 2), (131_072, 3), (5, 3)] {
            memory.resize(len * WASM_PAGE_BYTES, 0);
            memory[place] ^= 1;
            assert_eq!(root(&mut tree, &memory), root(&mut fresh(), &memory), "byte {place}");
        }
        // A byte that went back is seen as well, and the last checkpoint is as any other.
        memory[5] ^= 1;
        memory.resize(4 * WASM_PAGE_BYTES, 0);
        memory[3 * WASM_PAGE_BYTES] = 1;
        let last = tree.root(&memory, true);
        assert_eq!(last, root(&mut fresh(), &memory));
        assert_eq!(last, fresh().root(&memory, true));
    }

    #[test]
    fn a_link_commits_to_the_files() {
        let link = |files| link(&[fresh().root(&[], true)], files);
        assert_ne!(link(None), link(Some([0; 32])));
        assert_ne!(link(Some([1; 32])), link(Some([0; 32])));
    }

    #[test]
    fn a_link_commits_to_every_memory() {
        let tree = |byte| fresh().root(&vec![byte; WASM_PAGE_BYTES], true);
        let (a, b) = (tree(1), tree(2));
        let links = [&[a][..], &[b], &[a, b], &[b, a], &[a, a], &[]].map(|memories| link(memories, None));
        for (position, one) in links.iter().enumerate() {
            assert!(!links[..position].contains(one));
        }
    }

    /// A run without libraries hashes the root of its memory, not a hash over it.
    #[test]
    fn the_root_of_one_memory_enters_as_it_is() {
        let root = fresh().root(&vec![1; WASM_PAGE_BYTES], true);
        let (first, host_log) = (WideDigest::of_bytes(&[]), Digest::of_bytes(&[]));
        let figures = [&[1u64.to_le_bytes(); 3].concat()[..], &[0; 4]].concat();
        let fields: [&[u8]; 6] = [first.as_bytes(), &figures, root.as_bytes(), &[], host_log.as_bytes(), &[]];
        assert_eq!(link(&[root], None), WideDigest::of(CHECKPOINT, &fields));
    }

    fn link(memories: &[WideDigest], files: Option<fs::Leaf>) -> WideDigest {
        let mut chain = Chain::new(WideDigest::of_bytes(&[]));
        let host_log = Digest::of_bytes(&[]);
        let moment = Moment { gas_used: 1, pages: 1, memories, globals: &[], depth: 0, host_log, files };
        chain.push(&moment);
        *chain.into_links().last().unwrap()
    }

    #[test]
    fn every_byte_and_the_size_count() {
        let memory = vec![0; WASM_PAGE_BYTES];
        let zero = root(&mut fresh(), &memory);
        assert_ne!(zero, root(&mut fresh(), &[]));
        assert_ne!(zero, root(&mut fresh(), &vec![0; 2 * WASM_PAGE_BYTES]));
        for place in [0, 4_095, 4_096, 65_535] {
            let mut changed = memory.clone();
            changed[place] = 1;
            assert_ne!(zero, root(&mut fresh(), &changed), "byte {place}");
        }
    }
}
