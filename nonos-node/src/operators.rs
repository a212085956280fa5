//! Trees of operators that nodes publish, and which of them this node goes by.

use std::sync::Arc;

use nonos_identity::wire;
use nonos_identity::{NetworkId, NodeId, Timestamp};
use nonos_zk::{Enrolment, EnrolmentError, IdentityRoot, IdentityTree, TreeError};

use crate::clock;
use crate::control::OperatorTreeView;
use crate::gate::OPERATORS_ITEM;
use crate::node::Shared;
use crate::records::{Job, OperatorTree, Sealed};

/// A published tree that passed its check.
#[derive(Clone, Debug)]
pub(crate) struct TreeEntry {
    /// Who vouches for it; others may too.
    pub(crate) publisher: NodeId,
    pub(crate) members: usize,
    pub(crate) expiry: Timestamp,
}

/// Why enrolments make no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorsError {
    /// One of them does not hold.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// More than the tree takes.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Not sorted by their bytes, one twice, or more than [`Job::OPERATORS_MAX`].
    #[error("enrolments are not sorted, not distinct, or more than {}", Job::OPERATORS_MAX)]
    Order,
}

/// The tree of some enrolments, and the nodes behind them. One set of enrolments has one list.
pub(crate) fn tree(
    operators: &[Sealed],
    network: &NetworkId,
    now: Timestamp,
) -> Result<(IdentityTree, Vec<NodeId>), OperatorsError> {
    let ordered = operators.iter().zip(operators.iter().skip(1)).all(|(a, b)| a.0 < b.0);
    if !ordered || operators.len() > Job::OPERATORS_MAX {
        return Err(OperatorsError::Order);
    }
    let check = |sealed: &Sealed| Enrolment::check(&sealed.0, network, now);
    let enrolments = operators.iter().map(check).collect::<Result<Vec<_>, _>>()?;
    let tree = IdentityTree::from_enrolments(&enrolments)?;
    Ok((tree, enrolments.iter().map(|enrolment| enrolment.node).collect()))
}

impl Shared {
    /// The operators known now, in the order of a list.
    pub(crate) fn operator_list(&self, now: Timestamp) -> Vec<Sealed> {
        let mut operators = self.operators(now);
        operators.sort_by(|a, b| a.0.cmp(&b.0));
        operators.dedup();
        operators
    }

    /// Whether this node goes by a tree: any, unless the settings name some.
    pub(crate) fn accepts_operators(&self, root: &IdentityRoot) -> bool {
        let named = &self.config.operator_roots;
        named.is_empty() || named.contains(&root.to_string())
    }

    /// Publishes the tree of the operators known now.
    pub(crate) async fn publish_operators(self: &Arc<Self>) -> Result<OperatorTreeView, String> {
        let now = clock::now();
        let enrolments = self.operator_list(now);
        let (tree, _) = tree(&enrolments, &self.network, now).map_err(|error| error.to_string())?;
        let record = OperatorTree { root: tree.root(), enrolments };
        let sealed = self.credentials().signer.seal(&record, now.as_secs(), now);
        let sealed = sealed.map_err(|error| error.to_string())?;
        let bytes = sealed.as_bytes().clone();
        self.mesh.publish(OPERATORS_ITEM, bytes).await.map_err(|error| error.to_string())?;
        Ok(self.view(&tree.root(), self.me, tree.len()))
    }

    /// Every published tree that this node knows.
    pub(crate) fn operator_trees(&self) -> Vec<OperatorTreeView> {
        let known: Vec<_> = self.board().trees.clone().into_iter().collect();
        known.iter().map(|(root, entry)| self.view(root, entry.publisher, entry.members)).collect()
    }

    fn view(&self, root: &IdentityRoot, publisher: NodeId, members: usize) -> OperatorTreeView {
        OperatorTreeView {
            root: root.to_string(),
            publisher,
            members,
            accepted: self.accepts_operators(root),
            hides: match members {
                0 | 1 => "nobody: a proof names the only member".to_owned(),
                members => format!("one among {members}"),
            },
        }
    }
}

/// A published tree as it came.
pub(crate) fn check(
    bytes: &[u8],
    network: &NetworkId,
    now: Timestamp,
) -> Result<(IdentityRoot, TreeEntry), crate::gate::Refusal> {
    let opened = crate::records::open::<OperatorTree>(bytes, network, now)?.into_inner();
    let (tree, _) = tree(&opened.record.enrolments, network, now)?;
    if tree.root() != opened.record.root {
        return Err(crate::gate::Refusal::Fault("operators"));
    }
    let entry = TreeEntry { publisher: opened.node, members: tree.len(), expiry: opened.expiry };
    Ok((tree.root(), entry))
}

/// The root that a text of 64 hexadecimal digits names.
pub(crate) fn parse_root(text: &str) -> Option<IdentityRoot> {
    let digest: nonos_identity::Digest = text.parse().ok()?;
    IdentityRoot::from_bytes(*digest.as_bytes()).ok()
}

const _: () = assert!(<OperatorTree as wire::Wire>::MAX_BYTES <= nonos_identity::Envelope::MAX_BODY_BYTES);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nonos_identity::{Certificate, Identity, Role};
    use nonos_zk::IdentitySecret;

    use super::*;
    use crate::gate::Refusal;
    use crate::records::Signer;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn network() -> NetworkId {
        NetworkId::from_name("operators")
    }

    fn enrolment(seed: u8, network: &NetworkId) -> Sealed {
        let identity = Identity::from_seed(&[seed; 64]);
        let secret = IdentitySecret::from_seed(&identity.zk_secret(0));
        let signed = Enrolment::sign(&identity.root_key(), network, secret.operator_key(), NOW);
        Sealed(signed.expect("in the rules").as_bytes().to_vec())
    }

    fn sorted(count: u8) -> Vec<Sealed> {
        let mut all: Vec<_> = (1..=count).map(|seed| enrolment(seed, &network())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn published(root: IdentityRoot, enrolments: Vec<Sealed>) -> Result<(IdentityRoot, TreeEntry), Refusal> {
        let identity = Identity::from_seed(&[9; 64]);
        let key = identity.signing_key(Role::EpochSigner, 0);
        let hour = Duration::from_secs(3600);
        let role = Role::EpochSigner;
        let certificate = Certificate::issue(&identity.root_key(), &key, role, 1, NOW, hour, &network());
        let signer = Signer { key, certificate: certificate.expect("in the rules"), network: network() };
        let sealed = signer.seal(&OperatorTree { root, enrolments }, 0, NOW).expect("within the limit");
        check(sealed.as_bytes(), &network(), NOW)
    }

    fn root_of(enrolments: &[Sealed]) -> IdentityRoot {
        tree(enrolments, &network(), NOW).expect("good enrolments").0.root()
    }

    #[test]
    fn a_published_tree_is_that_of_its_enrolments() {
        for count in [1, 3] {
            let (root, entry) =
                published(root_of(&sorted(count)), sorted(count)).ok().expect("an honest tree");
            assert_eq!((root, entry.members), (root_of(&sorted(count)), usize::from(count)));
            assert_eq!(entry.publisher, Identity::from_seed(&[9; 64]).node_id());
            assert_eq!(parse_root(&root.to_string()), Some(root));
        }
    }

    #[test]
    fn a_tree_of_other_enrolments_is_a_fault() {
        let refused = |root, enrolments| match published(root, enrolments) {
            Err(Refusal::Fault(check)) => check,
            _ => panic!("not refused"),
        };
        let root = root_of(&sorted(3));
        assert_eq!(refused(root, sorted(2)), "operators");
        assert_eq!(refused(root, sorted(3).into_iter().rev().collect()), "operators", "another order");
        let twice = sorted(3).into_iter().flat_map(|one| [one.clone(), one]).collect();
        assert_eq!(refused(root, twice), "operators");
        let mut altered = sorted(3);
        altered[1].0[20] ^= 1;
        refused(root, altered);
        let mut foreign = [sorted(2), vec![enrolment(3, &NetworkId::from_name("another"))]].concat();
        foreign.sort_by(|a, b| a.0.cmp(&b.0));
        refused(root, foreign);
    }

    #[test]
    fn a_root_is_64_digits_below_the_modulus() {
        assert_eq!(parse_root("ab"), None);
        assert_eq!(parse_root(&"ff".repeat(32)), None);
    }
}
