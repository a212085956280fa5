use core::fmt;
use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, NetworkId, NodeId, Timestamp, WideDigest};
use serde::Serialize;

use crate::capsule::CapsuleId;
use crate::cpu_feature::CpuFeatureSet;
use crate::domains::{INVOCATION, NONCE};
use crate::fs::{Image, MAX_PATH_BYTES};
use crate::host_call::{HostCall, HostCallSet};
use crate::isolation::WallSet;
use crate::mesh_port::Inbound;
use crate::policy::Policy;
use crate::runtime::error::RunError;

/// Everything that enters a run from outside. The same invocation of the same capsule under
/// the same policy gives the same [`Execution`], on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Who asked for the run.
    pub caller: NodeId,
    /// Spent by the run; the same caller can never use it for this capsule again.
    pub nonce: [u8; 32],
    /// Standard input, at most [`Self::MAX_INPUT_BYTES`].
    pub input: Vec<u8>,
    /// Arguments, the program's name first, as by custom.
    pub args: Vec<String>,
    /// Environment, in the order the guest sees.
    pub env: Vec<(String, String)>,
    /// Where the guest's clock starts.
    pub clock: Timestamp,
    /// The network the run belongs to.
    pub network: NetworkId,
    /// Directories that the guest finds open, from descriptor 3 on. Without one it has no files.
    pub preopens: Vec<Preopen>,
}

/// A directory of the guest's that starts with the content of an image. What the guest changes
/// there is its own and ends with the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preopen {
    /// Where the guest finds it, for instance `/` or `/lib`; without a NUL byte.
    pub path: String,
    /// What is in it at the start.
    pub image: Image,
}

impl Invocation {
    /// Longest input, in bytes; held in memory for the whole run.
    pub const MAX_INPUT_BYTES: usize = 64 << 20;
    /// Most bytes over arguments and environment.
    pub const MAX_ARGS_BYTES: usize = 64 * 1_024;
    /// Most preopened directories; each is mounted before the run begins. What is in all of them
    /// together counts against [`Image::MAX_ENTRIES`].
    pub const MAX_PREOPENS: usize = 16;

    /// An invocation without input, arguments, environment and files.
    #[must_use]
    pub const fn new(caller: NodeId, nonce: [u8; 32], clock: Timestamp, network: NetworkId) -> Self {
        Self {
            caller,
            nonce,
            input: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            clock,
            network,
            preopens: Vec::new(),
        }
    }

    /// Checks the limits, and that no string would end early in the guest.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        let pairs = self.env.iter().flat_map(|(name, value)| [name, value]);
        let strings = || self.args.iter().chain(pairs.clone());
        if self.input.len() > Self::MAX_INPUT_BYTES {
            return Err(RunError::Invocation("input exceeds its limit"));
        }
        // Each string costs its terminator and a pointer too.
        if strings().map(|string| string.len() + 8).sum::<usize>() > Self::MAX_ARGS_BYTES {
            return Err(RunError::Invocation("arguments and environment exceed their limit"));
        }
        if strings().any(|string| string.contains('\0'))
            || self.env.iter().any(|(name, _)| name.contains('='))
        {
            return Err(RunError::Invocation("a NUL byte in a string, or an equals sign in a name"));
        }
        let entries: usize = self.preopens.iter().map(|preopen| preopen.image.entry_count()).sum();
        if self.preopens.len() > Self::MAX_PREOPENS || entries > Image::MAX_ENTRIES {
            return Err(RunError::Invocation("too many preopened directories, or too much in them"));
        }
        let paths = self.preopens.iter().map(|preopen| &preopen.path);
        let unique: BTreeSet<_> = paths.clone().collect();
        if unique.len() < self.preopens.len()
            || paths.clone().any(|path| path.is_empty() || path.len() > MAX_PATH_BYTES || path.contains('\0'))
        {
            return Err(RunError::Invocation("preopened directories need paths of their own, without NUL"));
        }
        Ok(())
    }

    /// Digest of everything but the nonce: caller, network, clock, arguments, environment,
    /// standard input, and path and digest of each preopened image.
    #[must_use]
    pub fn digest(&self) -> WideDigest {
        let numbers = [self.clock.as_secs(), self.args.len() as u64, self.env.len() as u64];
        let numbers = numbers.map(u64::to_le_bytes);
        let head = [&self.caller.as_bytes()[..], self.network.as_bytes(), numbers.as_flattened()].concat();
        let mut fields: Vec<&[u8]> = vec![&head];
        fields.extend(self.args.iter().map(String::as_bytes));
        fields.extend(self.env.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        fields.push(&self.input);
        let images: Vec<WideDigest> = self.preopens.iter().map(|preopen| preopen.image.digest()).collect();
        for (preopen, image) in self.preopens.iter().zip(&images) {
            fields.extend([preopen.path.as_bytes(), image.as_bytes()]);
        }
        WideDigest::of(INVOCATION, &fields)
    }

    /// The key under which the nonce of a run of `capsule` is consumed.
    #[must_use]
    pub fn nonce_key(&self, capsule: &CapsuleId) -> Digest {
        Digest::of(NONCE, &[self.network.as_bytes(), capsule.as_bytes(), self.caller.as_bytes(), &self.nonce])
    }
}

/// Why the guest stopped before its end. The codes are ours, not an engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TrapCode {
    /// Used more than the gas limit.
    #[n(0)]
    OutOfGas,
    /// More stack slots than the policy allows.
    #[n(1)]
    StackLimit,
    /// An `unreachable` instruction.
    #[n(2)]
    Unreachable,
    /// A memory access out of bounds.
    #[n(3)]
    MemoryOutOfBounds,
    /// A table access out of bounds.
    #[n(4)]
    TableOutOfBounds,
    /// An indirect call of a null entry.
    #[n(5)]
    IndirectCallToNull,
    /// An indirect call of a function of another type.
    #[n(6)]
    BadSignature,
    /// An integer division whose result does not fit.
    #[n(7)]
    IntegerOverflow,
    /// An integer division by zero.
    #[n(8)]
    IntegerDivisionByZero,
    /// A conversion of NaN or an out-of-range float to an integer.
    #[n(9)]
    BadConversionToInteger,
    /// A pointer handed to a host call does not lie in the guest's memory.
    #[n(10)]
    BadPointer,
}

impl fmt::Display for TrapCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OutOfGas => "out of gas",
            Self::StackLimit => "stack limit",
            Self::Unreachable => "unreachable",
            Self::MemoryOutOfBounds => "memory out of bounds",
            Self::TableOutOfBounds => "table out of bounds",
            Self::IndirectCallToNull => "indirect call to null",
            Self::BadSignature => "bad signature",
            Self::IntegerOverflow => "integer overflow",
            Self::IntegerDivisionByZero => "integer division by zero",
            Self::BadConversionToInteger => "bad conversion to integer",
            Self::BadPointer => "bad pointer",
        })
    }
}

/// How a run ended. All of these are deterministic results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Status {
    /// Returned from its entry (code 0) or called `proc_exit`.
    #[n(0)]
    Exit(#[n(0)] u32),
    /// Stopped by a trap.
    #[n(1)]
    Trap(#[n(0)] TrapCode),
    /// Wrote more output than the policy allows.
    #[n(2)]
    Quota,
    /// Made a host call that the policy does not allow: the call of this number.
    #[n(3)]
    HostDenied(#[n(0)] u8),
}

impl Status {
    /// Whether the guest ended by itself with code 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Exit(0))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Trap(code) => write!(f, "trap: {code}"),
            Self::Quota => f.pad("output quota exceeded"),
            Self::HostDenied(call) => match HostCall::from_number(*call) {
                Some(call) => write!(f, "host call denied: {call}"),
                None => write!(f, "host call {call} denied"),
            },
        }
    }
}

/// What a run did: its result and the commitments that let others replay or prove it.
///
/// Wire form: an array in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Execution {
    /// The capsule.
    #[n(0)]
    pub capsule_id: CapsuleId,
    /// The policy it ran under: the capsule's and the operator's, intersected.
    #[n(1)]
    pub policy: Policy,
    /// Hash over the last checkpoint, status, output, gas, pages, host calls, processor features
    /// and walls.
    #[n(2)]
    pub exec_hash: WideDigest,
    /// How it ended.
    #[n(3)]
    pub status: Status,
    /// Standard output.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub output: Vec<u8>,
    /// Standard error.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub stderr: Vec<u8>,
    /// Gas used, at most the policy's limit: what a run that overdraws pays.
    #[n(6)]
    pub gas_used: u64,
    /// Largest size of the linear memory, in pages of 64 KiB.
    #[n(7)]
    pub peak_pages: u32,
    /// Host calls it made; a denied one is not among them.
    #[n(8)]
    pub host_calls: HostCallSet,
    /// The chain: genesis first, then one link per checkpoint, the end last.
    #[n(9)]
    pub checkpoints: Vec<WideDigest>,
    /// [`Invocation::digest`].
    #[n(10)]
    pub input_digest: WideDigest,
    /// SHA3-512 of standard output, with no domain.
    #[n(11)]
    pub output_digest: WideDigest,
    /// The nonce it consumed.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// What the mesh answered, in the order of the calls: with the invocation, all that entered
    /// the run.
    #[n(13)]
    pub inbound: Vec<Inbound>,
    /// SHA3-512 of the command's payload, with no domain.
    #[n(14)]
    pub payload: WideDigest,
    /// What its payloads ask of the processor.
    #[n(15)]
    pub cpu_features: CpuFeatureSet,
    /// The walls that stood around it.
    #[n(16)]
    pub isolation: WallSet,
}

impl Execution {
    /// The gas it was allowed.
    #[must_use]
    pub const fn gas_limit(&self) -> u64 {
        self.policy.gas_limit
    }

    /// The pages it was allowed.
    #[must_use]
    pub const fn memory_pages_max(&self) -> u32 {
        self.policy.memory_pages_max
    }

    /// The host calls it was allowed.
    #[must_use]
    pub const fn allowed_host_calls(&self) -> HostCallSet {
        self.policy.host_calls
    }
}

impl Wire for Execution {
    /// Output at its largest, and a million checkpoints.
    const MAX_BYTES: usize = 160 << 20;
}
