use nonos_identity::{NodeId, Timestamp};
use nonos_mesh::{Check, ItemKind, Verdict};

/// Accepts everything but bytes that begin with `bad`.
pub(crate) struct Honest;

impl Check for Honest {
    fn check(&self, _: ItemKind, bytes: &[u8], _: NodeId, _: Timestamp) -> Verdict {
        if bytes.starts_with(b"bad") { Verdict::Reject("content") } else { Verdict::Accept }
    }
}

/// Says the same of everything.
pub(crate) struct Always(pub(crate) Verdict);

impl Check for Always {
    fn check(&self, _: ItemKind, _: &[u8], _: NodeId, _: Timestamp) -> Verdict {
        self.0
    }
}
