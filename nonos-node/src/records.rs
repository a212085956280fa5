//! The records that nodes exchange above the subsystems: commissions, jobs, verdicts, vouchers and claims.

mod disclosure;

use std::time::Duration;

use minicbor::{Decode, Encode};
use nonos_capsule::Execution;
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Certificate, CertificateError, Digest, Domain, Envelope, EnvelopeError, Epoch, NetworkId, NodeId,
    Opening, PublicKey, Role, Signature, SignatureError, SigningKey, Timestamp, Unverified, Verified,
    WideDigest,
};
use nonos_zk::{IdentityRoot, PolicyLimits, Trace};

use crate::domains;

pub use self::disclosure::{Disclosure, DisclosureError, public_run};

/// What a record is, and how it is told apart on the wire.
pub trait Record: Wire + Clone {
    /// Number in the envelope's header.
    const KIND: u16;
    /// Domain of its signature.
    const DOMAIN: Domain;
    /// How long it counts after it was signed.
    const LIFETIME: Duration;
}

/// A publisher's order, short enough to travel with every receipt that fulfils it: whoever
/// holds both can check the receipt without any other record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Commission {
    /// The capsule.
    #[n(0)]
    pub capsule: WideDigest,
    /// Execution nonce: an order is run and paid once.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// SHA3-512 of the input; also its name on the seeder's port.
    #[n(2)]
    pub input: WideDigest,
    /// Bytes of the input.
    #[n(3)]
    pub input_bytes: u64,
    /// Root of the tree of operators whose receipts the publisher accepts.
    #[n(4)]
    pub operators: IdentityRoot,
    /// What a run may use at most.
    #[n(5)]
    pub limits: PolicyLimits,
    /// Id of the price table the publisher pays by.
    #[n(6)]
    pub price_table: Digest,
    /// SHA3-512 of the SHA3-512 of the capsule's payload, which a proof of profile `full` opens.
    #[n(7)]
    pub payload_commit: WideDigest,
}

impl Commission {
    /// Largest input, in bytes: what an executor can be made to fetch and hold.
    pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
}

impl Wire for Commission {
    const MAX_BYTES: usize = 512;
}

impl Record for Commission {
    const KIND: u16 = 0x4a01;
    const DOMAIN: Domain = domains::COMMISSION;
    const LIFETIME: Duration = Duration::from_secs(24 * 3600);
}

/// What an executor needs beside the commission: prices and the operators' tree.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Job {
    /// The signed commission.
    #[n(0)]
    pub commission: Sealed,
    /// The publisher's signed price table.
    #[n(1)]
    pub price_table: Sealed,
    /// Enrolments of the accepted operators.
    #[n(2)]
    pub operators: Vec<Sealed>,
}

impl Job {
    /// Operators one job can name: bounds the tree that every node rebuilds.
    pub const OPERATORS_MAX: usize = 128;
}

impl Wire for Job {
    const MAX_BYTES: usize = 60 * 1024;
}

/// A tree of operators that its signer vouches for. Anybody may publish one; a verifier names in its
/// settings the roots it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OperatorTree {
    /// Root of the tree that the enrolments make.
    #[n(0)]
    pub root: IdentityRoot,
    /// The enrolments, sorted by their bytes; at most [`Job::OPERATORS_MAX`].
    #[n(1)]
    pub enrolments: Vec<Sealed>,
}

impl Wire for OperatorTree {
    const MAX_BYTES: usize = 56 * 1024;
}

impl Record for OperatorTree {
    const KIND: u16 = 0x4a03;
    const DOMAIN: Domain = domains::OPERATORS;
    const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
}

/// A receipt with the commission it fulfils: the item that is gossiped.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fulfilment {
    /// The signed commission.
    #[n(0)]
    pub commission: Sealed,
    /// The signed receipt.
    #[n(1)]
    pub receipt: Sealed,
}

impl Wire for Fulfilment {
    const MAX_BYTES: usize = 8 * 1024;
}

/// The bytes of a signed envelope inside a record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Sealed(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// A verifier vouches that a receipt passed every check of its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Verdict {
    /// Id of the receipt.
    #[n(0)]
    pub receipt: Digest,
    /// The commission it fulfils.
    #[n(1)]
    pub commission: Digest,
}

impl Wire for Verdict {
    const MAX_BYTES: usize = 128;
}

impl Record for Verdict {
    const KIND: u16 = 0x4a02;
    const DOMAIN: Domain = domains::VERDICT;
    const LIFETIME: Duration = Duration::from_secs(6 * 3600);
}

/// A record and the certificate that ties its signer to a node.
#[derive(Clone, Debug, Encode, Decode)]
struct Attributed {
    #[n(0)]
    certificate: Certificate,
    #[cbor(n(1), with = "minicbor::bytes")]
    record: Vec<u8>,
}

impl Wire for Attributed {
    const MAX_BYTES: usize = Envelope::MAX_BODY_BYTES;
}

/// Why a record does not count. The fault of whoever made or sent it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not the canonical form.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The envelope does not verify, is expired or of another kind.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is another key's.
    #[error("the certificate is not for the key that signed")]
    Signer,
    /// Valid for longer than its kind may be.
    #[error("the record is valid for too long")]
    Lifetime,
}

/// A record with the node that answers for it.
#[derive(Clone, Debug)]
pub struct Attested<T> {
    /// Who answers for it.
    pub node: NodeId,
    /// The record.
    pub record: T,
    /// The key that signed it.
    pub signer: PublicKey,
    /// The epoch it was made in.
    pub epoch: Epoch,
    /// The id of the signed envelope.
    pub id: Digest,
    /// The first second at which it no longer counts.
    pub expiry: Timestamp,
}

/// The keys a node signs records with.
#[derive(Debug)]
pub struct Signer {
    /// The epoch signer.
    pub key: SigningKey,
    /// Its certificate from the root.
    pub certificate: Certificate,
    /// The mesh.
    pub network: NetworkId,
}

impl Signer {
    /// Signs a record.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if the record exceeds its limit.
    pub fn seal<T: Record>(
        &self,
        record: &T,
        seq: u64,
        now: Timestamp,
    ) -> Result<Verified<Envelope>, DecodeError> {
        let record = wire::to_bytes(record);
        if record.len() > T::MAX_BYTES {
            return Err(DecodeError::TooLong { len: record.len(), limit: T::MAX_BYTES });
        }
        let body = wire::to_bytes(&Attributed { certificate: self.certificate.clone(), record });
        Envelope::seal(&self.key, T::DOMAIN, &self.network, T::KIND, seq, now, T::LIFETIME, body)
    }
}

/// Opens a record: signature, validity, certificate, canonical form.
///
/// # Errors
/// [`RecordError`] names the first check that failed.
pub fn open<T: Record>(
    bytes: &[u8],
    network: &NetworkId,
    now: Timestamp,
) -> Result<Verified<Attested<T>>, RecordError> {
    let envelope = Envelope::parse(bytes)?.check_signed(T::DOMAIN, network, T::KIND, now)?;
    let header = envelope.header();
    let (signer, epoch, expiry) = (header.key, header.epoch, header.expiry);
    if expiry > epoch.end().saturating_add(T::LIFETIME) {
        return Err(RecordError::Lifetime);
    }
    let attributed: Attributed = wire::from_bytes(envelope.body())?;
    let certificate =
        Unverified::new(attributed.certificate).check_issued(Role::EpochSigner, network, now)?;
    if certificate.subject() != signer {
        return Err(RecordError::Signer);
    }
    let record: T = wire::from_bytes(&attributed.record)?;
    let (id, node) = (envelope.id(domains::RECORD_ID), certificate.node());
    Ok(envelope.map(|_| Attested { node, record, signer, epoch, id, expiry }))
}

/// A pseudonym's promise to pay, handed over inside a circuit: the payee learns neither the
/// payer's node nor where the circuit begins. Each promise has a key of its own, so two payees
/// of one circuit hold nothing that is equal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Voucher {
    /// The one-time key that promises.
    #[n(0)]
    pub payer: PublicKey,
    /// Nano-mod.
    #[n(1)]
    pub amount: u64,
    #[n(2)]
    signature: Signature,
}

impl Wire for Voucher {
    const MAX_BYTES: usize = 160;
}

#[derive(Encode, Decode)]
struct VoucherContent {
    #[n(0)]
    payee: NodeId,
    #[n(1)]
    amount: u64,
}

impl Wire for VoucherContent {
    const MAX_BYTES: usize = 64;
}

impl Voucher {
    /// Promises `amount` nano-mod to `payee`.
    #[must_use]
    pub fn sign(payer: &SigningKey, payee: NodeId, amount: u64, network: &NetworkId) -> Self {
        let content = wire::to_bytes(&VoucherContent { payee, amount });
        let signature = payer.sign(domains::VOUCHER, network, &content);
        Self { payer: payer.public(), amount, signature }
    }

    /// What names the transfer in both journals. It follows from the one-time key, so a voucher
    /// can never take the name of another payment.
    #[must_use]
    pub fn purpose(payer: &PublicKey, network: &NetworkId) -> Digest {
        Digest::of(domains::PURPOSE, &[network.as_bytes(), payer.as_bytes()])
    }
}

/// Checks that a voucher is the payer's promise to `payee`.
///
/// # Errors
/// [`SignatureError`] if it is not.
pub fn check_voucher(
    voucher: Unverified<Voucher>,
    payee: NodeId,
    network: &NetworkId,
) -> Result<Verified<Voucher>, SignatureError> {
    voucher.check(|voucher| {
        let content = VoucherContent { payee, amount: voucher.amount };
        voucher.payer.verify(domains::VOUCHER, network, &wire::to_bytes(&content), &voucher.signature)
    })
}

/// An executor's claim of its fee: it opens its one-run identity and its trace to the payer alone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// Id of the receipt.
    #[n(0)]
    pub receipt: Digest,
    /// Opens the receipt's identity commitment, down to the node's root key: nobody can be named
    /// without having signed.
    #[n(1)]
    pub opening: Opening,
    /// Opens the receipt's execution commitment: the gas that the price depends on.
    #[n(2)]
    pub trace: OpenedTrace,
    /// What the executor discloses to its auditors, for the payer to carry: asking the payer for it
    /// tells nobody who ran.
    #[n(3)]
    pub disclosure: Option<Disclosure>,
}

/// The values behind an execution commitment.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OpenedTrace {
    /// Gas used.
    #[n(0)]
    pub gas_used: u64,
    /// Most memory pages at a time.
    #[n(1)]
    pub peak_pages: u32,
    /// Host calls made, as a set.
    #[n(2)]
    pub host_calls: u64,
    /// The checkpoint chain.
    #[n(3)]
    pub checkpoints: Vec<WideDigest>,
    /// What hid the values.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub blind: [u8; 32],
    /// Features of the processor used, as a set.
    #[n(5)]
    pub cpu_features: u32,
    /// Walls that stood, as a set.
    #[n(6)]
    pub isolation: u16,
    /// SHA3-512 of the payload.
    #[n(7)]
    pub payload: WideDigest,
}

impl OpenedTrace {
    /// The trace of an execution, hidden by fresh random bytes.
    #[must_use]
    pub fn of(run: &Execution, blind: [u8; 32]) -> Self {
        Self {
            gas_used: run.gas_used,
            peak_pages: run.peak_pages,
            host_calls: run.host_calls.bits(),
            checkpoints: run.checkpoints.clone(),
            blind,
            cpu_features: run.cpu_features.bits(),
            isolation: run.isolation.bits(),
            payload: run.payload,
        }
    }

    /// The trace as the circuit knows it.
    #[must_use]
    pub fn to_trace(&self) -> Trace {
        Trace {
            gas_used: self.gas_used,
            peak_pages: self.peak_pages,
            host_calls: self.host_calls,
            cpu_features: self.cpu_features,
            isolation: self.isolation,
            payload: self.payload,
            checkpoints: self.checkpoints.clone(),
            blind: self.blind,
        }
    }
}

impl Wire for Claim {
    /// Room for about four thousand checkpoints, 200 G gas at the default interval.
    const MAX_BYTES: usize = 300 * 1024;
}

/// The payer's answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum ClaimAnswer {
    /// The fee is posted: nano-mod.
    #[n(0)]
    Posted(#[n(0)] u64),
    /// The payer does not know the receipt yet; ask again.
    #[n(1)]
    Unknown,
    /// The claim does not open the receipt.
    #[n(2)]
    Refused,
    /// Another receipt of the same commission was paid.
    #[n(3)]
    AlreadyPaid,
}

impl Wire for ClaimAnswer {
    const MAX_BYTES: usize = 32;
}
