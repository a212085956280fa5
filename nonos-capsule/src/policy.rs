use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use nonos_identity::WideDigest;
use nonos_identity::wire::{self, Wire};
use serde::{Deserialize, Serialize};

use crate::cpu_feature::CpuFeatureSet;
use crate::dependency::is_plain_name;
use crate::domains::POLICY;
use crate::host_call::HostCallSet;
use crate::isolation::{Wall, WallSet};

/// Pages of 4 KiB that may be compared for the gas of one interval.
const PAGES_PER_INTERVAL: u64 = 1_250;

/// What `clock_time_get` tells the guest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClockMode {
    /// Always the time of the invocation.
    #[n(0)]
    Frozen,
    /// The time of the invocation plus one nanosecond per unit of gas used.
    #[default]
    #[n(1)]
    Logical,
}

/// What `random_get` tells the guest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RandomMode {
    /// `ENOTSUP`.
    #[n(0)]
    None,
    /// A stream derived from capsule id, nonce and input.
    #[default]
    #[n(1)]
    Seeded,
}

/// What a capsule may use. Signed by its author; an operator narrows it by its own.
///
/// Wire form: an array in the order of the fields. TOML: every field is optional.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Gas the run may use; stops a capsule that never ends.
    #[n(0)]
    pub gas_limit: u64,
    /// Size of the linear memory, in pages of 64 KiB; stops memory bombs.
    #[n(1)]
    pub memory_pages_max: u32,
    /// Size of the call stack, in slots: a frame takes 16 plus its parameters, locals and
    /// operand height. Stops endless recursion long before the native stack ends.
    #[n(2)]
    pub stack_depth_max: u32,
    /// Entries over all tables.
    #[n(3)]
    pub table_elems_max: u32,
    /// Wall-clock backstop, in milliseconds. It aborts the run and is never a result.
    #[n(4)]
    pub wall_ms_max: u64,
    /// Gas between two checkpoints while memory and files take at most 2 500 pages of 4 KiB;
    /// grows in proportion beyond, so that hashing stays a fixed share of the run.
    #[n(5)]
    pub checkpoint_interval_gas: u64,
    /// Host calls the capsule may make; any other ends the run as `HostDenied`.
    #[n(6)]
    pub host_calls: HostCallSet,
    /// Bytes of standard output and standard error together; more ends the run as `Quota`.
    #[n(7)]
    pub output_max_bytes: u64,
    /// What the clock shows.
    #[n(8)]
    pub clock: ClockMode,
    /// Where random bytes come from.
    #[n(9)]
    pub random: RandomMode,
    /// Bytes that files of the run may hold beside its images; a file of an image counts from
    /// its first change. Beyond, the guest gets `ENOSPC`, as on any full disk, and goes on.
    #[n(10)]
    pub fs_max_bytes: u64,
    /// Files, directories and links that the guest may make; beyond, it gets `ENOSPC` too.
    #[n(11)]
    pub fs_max_files: u32,
    /// What it may say to the mesh.
    #[n(12)]
    pub mesh: MeshPolicy,
    /// What the payload may ask of the processor; one that asks for more is not loaded.
    #[n(13)]
    pub cpu_features: CpuFeatureSet,
    /// Walls that must stand around the run; a capsule that cannot do without what is behind them is
    /// not loaded or not run.
    #[n(14)]
    pub isolation: WallSet,
}

/// What a capsule may exchange with the mesh: by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshPolicy {
    /// Services it may send to: plain names, at most [`Self::MAX_SERVICES`].
    #[n(0)]
    pub services: BTreeSet<String>,
    /// Bytes of all messages, both ways; more ends the run as `Quota`.
    #[n(1)]
    pub bytes_max: u64,
    /// Messages, both ways; more ends the run as `Quota`.
    #[n(2)]
    pub messages_max: u32,
}

impl MeshPolicy {
    /// Most services a policy names.
    pub const MAX_SERVICES: usize = 16;
    /// Most bytes of messages: what came in is kept with the execution, for replays.
    pub const MAX_BYTES: u64 = 16 << 20;
    /// Most messages.
    pub const MAX_MESSAGES: u32 = 1 << 16;

    /// The service of this name, if it is named.
    pub(crate) fn service(&self, name: &[u8]) -> Option<&str> {
        let name = core::str::from_utf8(name).ok()?;
        self.services.get(name).map(String::as_str)
    }

    fn intersect(&self, other: &Self) -> Self {
        Self {
            services: self.services.intersection(&other.services).cloned().collect(),
            bytes_max: self.bytes_max.min(other.bytes_max),
            messages_max: self.messages_max.min(other.messages_max),
        }
    }
}

/// A policy that no run can keep or no host should allow. Its author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy field {field} must be within {min}..={max}, found {found}")]
pub struct PolicyError {
    /// The field.
    pub field: &'static str,
    /// Smallest accepted value.
    pub min: u64,
    /// Largest accepted value.
    pub max: u64,
    /// The value found.
    pub found: u64,
}

impl Policy {
    /// Most gas a policy may grant: leaves room below 2^63 for the overshoot of a basic block.
    pub const MAX_GAS: u64 = 1 << 60;
    /// Largest memory, in 64 KiB pages: 1 GiB.
    pub const MAX_MEMORY_PAGES: u32 = 16_384;
    /// Largest call stack, in slots; sizes the native stack.
    pub const MAX_STACK_DEPTH: u32 = 1 << 18;
    /// Most table entries.
    pub const MAX_TABLE_ELEMS: u32 = 1 << 20;
    /// Longest run, in milliseconds: one hour.
    pub const MAX_WALL_MS: u64 = 3_600_000;
    /// Smallest gas between checkpoints: a checkpoint hashes the pages touched, so a short
    /// interval would let a capsule burn the host's time for little gas.
    pub const MIN_CHECKPOINT_INTERVAL_GAS: u64 = 100_000;
    /// Gas between checkpoints by default.
    pub const DEFAULT_CHECKPOINT_INTERVAL_GAS: u64 = 50_000_000;
    /// Most output, in bytes.
    pub const MAX_OUTPUT_BYTES: u64 = 64 << 20;
    /// Most bytes of files, held in memory for the whole run.
    pub const MAX_FS_BYTES: u64 = 1 << 30;
    /// Most files, directories and links; each takes some hundred bytes of the host.
    pub const MAX_FS_FILES: u32 = 1 << 17;

    /// What both allow: of each pair the one that lets the capsule do less. Of the two
    /// checkpoint intervals it is the longer, because a checkpoint costs the operator.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let isolation = self.isolation.union(other.isolation);
        Self {
            gas_limit: self.gas_limit.min(other.gas_limit),
            memory_pages_max: self.memory_pages_max.min(other.memory_pages_max),
            stack_depth_max: self.stack_depth_max.min(other.stack_depth_max),
            table_elems_max: self.table_elems_max.min(other.table_elems_max),
            wall_ms_max: self.wall_ms_max.min(other.wall_ms_max),
            checkpoint_interval_gas: self.checkpoint_interval_gas.max(other.checkpoint_interval_gas),
            host_calls: self.host_calls.intersection(other.host_calls),
            output_max_bytes: self.output_max_bytes.min(other.output_max_bytes),
            clock: self.clock.min(other.clock),
            random: self.random.min(other.random),
            fs_max_bytes: self.fs_max_bytes.min(other.fs_max_bytes),
            fs_max_files: self.fs_max_files.min(other.fs_max_files),
            mesh: if isolation.contains(Wall::Mesh) {
                MeshPolicy::default()
            } else {
                self.mesh.intersect(&other.mesh)
            },
            cpu_features: self.cpu_features.intersection(other.cpu_features),
            isolation,
        }
    }

    /// The digest that binds a run to the policy it ran under.
    #[must_use]
    pub fn digest(&self) -> WideDigest {
        WideDigest::of(POLICY, &[&wire::to_bytes(self)])
    }

    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// [`PolicyError`] names the first field out of bounds.
    pub fn check(&self) -> Result<(), PolicyError> {
        let bounds = [
            ("gas_limit", self.gas_limit, 1, Self::MAX_GAS),
            ("memory_pages_max", u64::from(self.memory_pages_max), 0, u64::from(Self::MAX_MEMORY_PAGES)),
            ("stack_depth_max", u64::from(self.stack_depth_max), 1, u64::from(Self::MAX_STACK_DEPTH)),
            ("table_elems_max", u64::from(self.table_elems_max), 0, u64::from(Self::MAX_TABLE_ELEMS)),
            ("wall_ms_max", self.wall_ms_max, 1, Self::MAX_WALL_MS),
            (
                "checkpoint_interval_gas",
                self.checkpoint_interval_gas,
                Self::MIN_CHECKPOINT_INTERVAL_GAS,
                Self::MAX_GAS,
            ),
            ("output_max_bytes", self.output_max_bytes, 0, Self::MAX_OUTPUT_BYTES),
            ("fs_max_bytes", self.fs_max_bytes, 0, Self::MAX_FS_BYTES),
            ("fs_max_files", u64::from(self.fs_max_files), 0, u64::from(Self::MAX_FS_FILES)),
            ("mesh.services", self.mesh.services.len() as u64, 0, MeshPolicy::MAX_SERVICES as u64),
            ("mesh.bytes_max", self.mesh.bytes_max, 0, MeshPolicy::MAX_BYTES),
            ("mesh.messages_max", self.mesh.messages_max.into(), 0, MeshPolicy::MAX_MESSAGES.into()),
        ];
        for (field, found, min, max) in bounds {
            if !(min..=max).contains(&found) {
                return Err(PolicyError { field, min, max, found });
            }
        }
        if let Some(name) = self.mesh.services.iter().find(|name| !is_plain_name(name)) {
            let found = name.len() as u64;
            return Err(PolicyError { field: "length of a name in mesh.services", min: 1, max: 64, found });
        }
        Ok(())
    }

    /// Gas until the next checkpoint while the guest holds `memory_pages` of 64 KiB, those of its
    /// files included: the interval of the policy, and longer in proportion beyond 5 MB, because a
    /// checkpoint reads all of a memory.
    #[must_use]
    pub fn checkpoint_interval(&self, memory_pages: u64) -> u64 {
        let pages_4k = memory_pages.saturating_mul(16);
        let per_page = self.checkpoint_interval_gas / PAGES_PER_INTERVAL;
        self.checkpoint_interval_gas.max(per_page.saturating_mul(pages_4k))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            gas_limit: 10_000_000_000,
            memory_pages_max: 1_024,
            stack_depth_max: Self::MAX_STACK_DEPTH,
            table_elems_max: 16_384,
            wall_ms_max: 60_000,
            checkpoint_interval_gas: Self::DEFAULT_CHECKPOINT_INTERVAL_GAS,
            host_calls: HostCallSet::COMMAND,
            output_max_bytes: 1 << 20,
            clock: ClockMode::default(),
            random: RandomMode::default(),
            fs_max_bytes: 16 << 20,
            fs_max_files: 1_024,
            mesh: MeshPolicy::default(),
            cpu_features: CpuFeatureSet::ALL,
            isolation: WallSet::EMPTY,
        }
    }
}

impl Wire for Policy {
    const MAX_BYTES: usize = 2_048;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_keeps_its_own_bounds() {
        assert_eq!(Policy::default().check(), Ok(()));
        let zero = Policy { gas_limit: 0, ..Policy::default() };
        assert_eq!(zero.check().map_err(|error| error.field), Err("gas_limit"));
        let large = Policy { fs_max_bytes: Policy::MAX_FS_BYTES + 1, ..Policy::default() };
        assert_eq!(large.check().map_err(|error| error.field), Err("fs_max_bytes"));
        let many = Policy { fs_max_files: Policy::MAX_FS_FILES + 1, ..Policy::default() };
        assert_eq!(many.check().map_err(|error| error.field), Err("fs_max_files"));
    }

    #[test]
    fn the_interval_grows_with_memory() {
        let policy = Policy::default();
        assert_eq!(policy.checkpoint_interval(1), 50_000_000);
        assert_eq!(policy.checkpoint_interval(1_600), 40_000 * 1_600 * 16);
    }

    #[test]
    fn toml_fills_in_defaults_and_refuses_typos() {
        let policy: Policy = toml::from_str("gas_limit = 7\nhost_calls = [\"fd_write\"]").unwrap();
        assert_eq!(policy.gas_limit, 7);
        assert_eq!(policy.host_calls, HostCallSet::of(&[crate::HostCall::FdWrite]));
        assert_eq!(policy.memory_pages_max, Policy::default().memory_pages_max);
        assert!(toml::from_str::<Policy>("gas_limits = 7").is_err());
        assert!(toml::from_str::<Policy>("host_calls = [\"fd_wrote\"]").is_err());
    }
}
