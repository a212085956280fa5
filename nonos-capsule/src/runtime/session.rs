use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use nonos_identity::{Digest, RunningDigest, WideDigest};

use super::engine::{End, Guest, Stop};
use super::wasi::{self, Fault, World};
use super::{Aborted, Rerun};
use crate::capsule::CapsuleId;
use crate::checkpoint::{self, Chain, MemoryTree, Moment};
use crate::cpu_feature::CpuFeatureSet;
use crate::domains::{HOST_LOG, RANDOM};
use crate::execution::{Execution, Invocation, Preopen, Status, TrapCode};
use crate::fs::Image;
use crate::host_call::{HostCall, HostCallSet};
use crate::isolation::{Wall, WallSet};
use crate::mesh_port::{Inbound, MeshPort};
use crate::policy::Policy;

mod instances;

pub(super) use self::instances::{Instances, alone};

/// Gas between two looks at the wall clock: some milliseconds.
const SLICE_GAS: u64 = 50_000_000;

/// Gas per byte that a host call moves.
pub(super) const GAS_PER_BYTE: u64 = 1;

/// The mesh as far as one run has used it.
pub(super) struct Mesh {
    pub(super) port: Box<dyn MeshPort>,
    /// A message that was received and not yet taken.
    pub(super) pending: Option<Vec<u8>>,
    bytes: u64,
    messages: u32,
    inbound: Vec<Inbound>,
}

impl Mesh {
    fn new(port: Box<dyn MeshPort>) -> Self {
        Self { port, pending: None, bytes: 0, messages: 0, inbound: Vec::new() }
    }

    /// Counts a message of some bytes; nothing if it is one too many.
    pub(super) fn count(&mut self, policy: &Policy, bytes: u64) -> Option<()> {
        self.bytes = self.bytes.checked_add(bytes).filter(|bytes| *bytes <= policy.mesh.bytes_max)?;
        self.messages = self.messages.checked_add(1).filter(|count| *count <= policy.mesh.messages_max)?;
        Some(())
    }

    pub(super) const fn bytes_left(&self, policy: &Policy) -> u64 {
        policy.mesh.bytes_max.saturating_sub(self.bytes)
    }
}

/// Bytes of a call in the log: number, outcome, gas, errno, and at most nine operands.
const RECORD_BYTES: usize = 2 + 8 + 4 + 9 * 8;

/// The random bytes of a run, derived when the first are asked for.
pub(super) struct Random {
    seed: (CapsuleId, [u8; 32], WideDigest),
    stream: Option<blake3::OutputReader>,
}

impl Random {
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        let (capsule_id, nonce, input_digest) = &self.seed;
        let stream = self.stream.get_or_insert_with(|| {
            let seed = Digest::of(RANDOM, &[capsule_id.as_bytes(), nonce, input_digest.as_bytes()]);
            blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof()
        });
        stream.fill(bytes);
    }
}

/// A loaded command: what its runs have in common.
pub(super) struct Command {
    pub(super) capsule_id: CapsuleId,
    code: Code,
    pub(super) entry: String,
    /// The effective policy.
    pub(super) policy: Policy,
    policy_digest: WideDigest,
    /// The images of the capsule's dependencies.
    mounts: Arc<[Preopen]>,
    instances: Instances,
}

/// What is known of the payloads of a command and its libraries.
#[derive(Clone, Copy)]
pub(super) struct Code {
    /// Digest of the command's own.
    pub(super) payload: WideDigest,
    /// Of all of them.
    pub(super) cpu_features: CpuFeatureSet,
}

#[cfg(any(test, feature = "testing"))]
impl Code {
    /// For sessions without a payload.
    pub(super) const NONE: Self =
        Self { payload: WideDigest::from_bytes([0; 64]), cpu_features: CpuFeatureSet::EMPTY };
}

impl Command {
    pub(super) fn new(capsule_id: CapsuleId, code: Code, policy: Policy, entry: String) -> Self {
        let policy_digest = policy.digest();
        Self { capsule_id, code, entry, policy, policy_digest, mounts: Arc::new([]), instances: alone() }
    }

    pub(super) fn with_mounts(self, mounts: Arc<[Preopen]>) -> Self {
        Self { mounts, ..self }
    }

    /// The first checkpoint of every run of this invocation.
    pub(super) fn genesis(&self, nonce: &[u8; 32], input_digest: &WideDigest) -> WideDigest {
        checkpoint::genesis(&self.capsule_id, &self.policy_digest, nonce, input_digest)
    }

    pub(super) fn with_instances(self, instances: Instances) -> Self {
        Self { instances, ..self }
    }

    /// Whether a run finds a directory.
    pub(super) fn has_files(&self, invocation: &Invocation) -> bool {
        !(self.mounts.is_empty() && invocation.preopens.is_empty())
    }
}

/// The host's side of one run: meter, checkpoints, host calls, limits.
pub struct Session {
    pub(super) command: Arc<Command>,
    /// The instance that runs.
    active: usize,
    pub(super) invocation: Invocation,
    input_digest: WideDigest,
    pub(super) world: World,
    pub(super) random: Random,
    chain: Chain,
    /// One for each instance.
    memories: Vec<MemoryTree>,
    next_checkpoint: u64,
    /// Links of the chain after which the run stops, for a referee who looks no further.
    links_max: Option<usize>,
    /// Gas handed out so far; what is used is this less what is left in the guest.
    granted: u64,
    /// Gas used at the last look.
    pub(super) gas_used: u64,
    calls: HostCallSet,
    host_log: RunningDigest,
    peak_pages: u32,
    pub(super) mesh: Mesh,
    started: Instant,
    ending: Option<Result<Status, Aborted>>,
}

impl Session {
    pub(super) fn new(command: Arc<Command>, invocation: Invocation, port: Box<dyn MeshPort>) -> Self {
        let Command { capsule_id, policy, mounts, instances, .. } = &*command;
        let input_digest = invocation.digest();
        let genesis = command.genesis(&invocation.nonce, &input_digest);
        Self {
            memories: instances.iter().map(|_| MemoryTree::default()).collect(),
            active: 0,
            input_digest,
            world: World::new(policy, mounts, &invocation),
            random: Random { seed: (*capsule_id, invocation.nonce, input_digest), stream: None },
            chain: Chain::new(genesis),
            next_checkpoint: 0,
            links_max: None,
            granted: 0,
            gas_used: 0,
            calls: HostCallSet::EMPTY,
            host_log: RunningDigest::new(HOST_LOG),
            peak_pages: 0,
            mesh: Mesh::new(port),
            started: now(),
            ending: None,
            command,
            invocation,
        }
    }

    /// The exported function to run.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.command.entry
    }

    /// Most pages of 64 KiB that all memories may have; a request beyond yields -1.
    #[must_use]
    pub fn memory_pages_max(&self) -> u32 {
        self.command.policy.memory_pages_max
    }

    /// Most entries over all tables of all instances.
    #[must_use]
    pub fn table_elems_max(&self) -> u32 {
        self.command.policy.table_elems_max
    }

    /// Grants the first slice; called after instantiation, before the first instruction.
    pub fn begin(&mut self, guest: &mut dyn Guest) {
        guest.set_depth(i32::try_from(self.command.policy.stack_depth_max).unwrap_or(i32::MAX));
        self.next_checkpoint = self.interval(guest);
        self.grant(guest);
    }

    /// The import `nonos.tick`: the slice is overdrawn.
    ///
    /// # Errors
    /// [`Stop`] if the run is over.
    pub fn tick(&mut self, guest: &mut dyn Guest) -> Result<(), Stop> {
        self.settle(guest)?;
        if self.gas_used >= self.next_checkpoint {
            self.checkpoint(guest, false);
            self.check_links()?;
            self.next_checkpoint = self.gas_used.saturating_add(self.interval(guest));
        }
        self.grant(guest);
        Ok(())
    }

    /// A host call; `args` are the operands as bits. `None` is the answer of a call that
    /// returns nothing.
    ///
    /// # Errors
    /// [`Stop`] if the run is over.
    pub fn call(&mut self, call: HostCall, args: &[u64], guest: &mut dyn Guest) -> Result<Option<u32>, Stop> {
        if !self.command.policy.host_calls.contains(call) {
            return Err(self.stop(Ok(Status::HostDenied(call as u8))));
        }
        self.calls = self.calls.with(call);
        self.settle(guest)?;
        self.charge(call.base_gas(), guest)?;
        let answer = wasi::call(self, call, args, guest);
        let (code, errno) = match answer {
            Ok(errno) => (0u8, errno as u32),
            Err(Fault::Exit(code)) => (1, code),
            Err(Fault::BadPointer) => (2, 0),
            Err(Fault::Quota) => (3, 0),
            Err(Fault::Stop) => return Err(Stop),
        };
        self.log(call, code, errno, args);
        match answer {
            Ok(errno) => Ok(Some(errno as u32)),
            Err(Fault::Exit(code)) => Err(self.stop(Ok(Status::Exit(code)))),
            Err(Fault::BadPointer) => Err(self.stop(Ok(Status::Trap(TrapCode::BadPointer)))),
            Err(Fault::Quota) => Err(self.stop(Ok(Status::Quota))),
            Err(Fault::Stop) => Err(Stop),
        }
    }

    /// The last call: takes the final checkpoint. `guest` is `None` if instantiation failed.
    pub fn end(&mut self, end: End, guest: Option<&mut dyn Guest>) {
        let mut depth = 0;
        if let Some(guest) = guest {
            depth = guest.depth();
            self.gas_used = self.used(guest);
            if !self.has_all_links() {
                self.checkpoint(guest, true);
            }
        }
        let status = match end {
            End::Failed(error) => Err(Aborted::Host(error)),
            End::Trapped(TrapCode::Unreachable) if depth < 0 => Ok(Status::Trap(TrapCode::StackLimit)),
            End::Trapped(code) => Ok(Status::Trap(code)),
            End::Returned => Ok(Status::Exit(0)),
            End::Stopped => Err(Aborted::Host("engine stopped the run by itself".to_owned())),
        };
        let stopped = self.ending.take();
        self.ending = Some(match stopped {
            Some(ending) => ending,
            // The last stretch of code may overdraw without a tick.
            None if self.gas_used > self.command.policy.gas_limit => Ok(Status::Trap(TrapCode::OutOfGas)),
            None => status,
        });
    }

    pub(super) fn into_execution(mut self) -> Result<Execution, Aborted> {
        let status = self.ending.unwrap_or_else(|| Err(Aborted::Host("engine ended no run".to_owned())))?;
        let (output, stderr) = self.world.take_output();
        let uses_mesh = [HostCall::MeshSend, HostCall::MeshReceive].map(|call| self.calls.contains(call));
        let isolation = WallSet::EMPTY
            .with_if(Wall::Mesh, uses_mesh == [false; 2])
            .with_if(Wall::Files, !self.command.has_files(&self.invocation))
            .with_if(Wall::Libraries, self.memories.len() == 1);
        let mut execution = Execution {
            capsule_id: self.command.capsule_id,
            exec_hash: WideDigest::from_bytes([0; 64]),
            status,
            output_digest: WideDigest::of_bytes(&output),
            output,
            stderr,
            // The block that overdrew ran to its end; nobody pays beyond the limit that was signed.
            gas_used: self.gas_used.min(self.command.policy.gas_limit),
            peak_pages: self.peak_pages,
            host_calls: self.calls,
            checkpoints: self.chain.into_links(),
            input_digest: self.input_digest,
            nonce: self.invocation.nonce,
            policy: self.command.policy.clone(),
            inbound: self.mesh.inbound,
            payload: self.command.code.payload,
            cpu_features: self.command.code.cpu_features,
            isolation,
        };
        execution.exec_hash = execution.compute_hash();
        Ok(execution)
    }

    /// The links so far and the gas they took; the execution too, if the run came to its end.
    pub(super) fn into_rerun(self) -> Result<Rerun, Aborted> {
        let gas_used = self.gas_used.min(self.command.policy.gas_limit);
        if self.has_all_links() && matches!(self.ending, Some(Err(_))) {
            return Ok(Rerun { checkpoints: self.chain.into_links(), gas_used, execution: None });
        }
        let execution = self.into_execution()?;
        Ok(Rerun { checkpoints: execution.checkpoints.clone(), gas_used, execution: Some(execution) })
    }

    /// Lets the run stop as soon as its chain has so many links, genesis included.
    pub(super) fn with_links_max(self, links_max: Option<usize>) -> Self {
        Self { links_max, ..self }
    }

    fn has_all_links(&self) -> bool {
        self.links_max.is_some_and(|max| self.chain.len() >= max)
    }

    /// Stops a run whose chain is as long as was asked for.
    pub(super) fn check_links(&mut self) -> Result<(), Stop> {
        if self.has_all_links() {
            return Err(self.stop(Err(Aborted::Host("stopped at the checkpoint asked for".to_owned()))));
        }
        Ok(())
    }

    /// Gas up to the limit.
    pub(super) fn gas_left(&self) -> u64 {
        self.command.policy.gas_limit.saturating_sub(self.gas_used)
    }

    /// What is in each preopened directory at the end.
    pub(super) fn images(&self) -> Vec<Image> {
        self.world.images()
    }

    /// Charges for work the host is about to do.
    pub(super) fn charge(&mut self, gas: u64, guest: &mut dyn Guest) -> Result<(), Stop> {
        let left = guest.gas().saturating_sub(i64::try_from(gas).unwrap_or(i64::MAX));
        guest.set_gas(left);
        self.gas_used = self.used(guest);
        self.check_gas()
    }

    /// Keeps the first ending.
    fn stop(&mut self, ending: Result<Status, Aborted>) -> Stop {
        self.ending.get_or_insert(ending);
        Stop
    }

    /// Looks at gas and wall clock.
    fn settle(&mut self, guest: &mut dyn Guest) -> Result<(), Stop> {
        self.gas_used = self.used(guest);
        self.check_gas()?;
        let elapsed = now().saturating_duration_since(self.started);
        if elapsed > Duration::from_millis(self.command.policy.wall_ms_max) {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            return Err(self.stop(Err(Aborted::WallClock(ms))));
        }
        Ok(())
    }

    fn check_gas(&mut self) -> Result<(), Stop> {
        if self.gas_used > self.command.policy.gas_limit {
            return Err(self.stop(Ok(Status::Trap(TrapCode::OutOfGas))));
        }
        Ok(())
    }

    fn used(&self, guest: &mut dyn Guest) -> u64 {
        self.granted.saturating_add_signed(guest.gas().saturating_neg())
    }

    /// Hands out gas up to the next checkpoint, look at the clock, or the limit.
    fn grant(&mut self, guest: &mut dyn Guest) {
        let used = self.gas_used;
        let until = self
            .next_checkpoint
            .min(self.command.policy.gas_limit)
            .min(used.saturating_add(SLICE_GAS))
            .max(used);
        self.granted = until;
        guest.set_gas(i64::try_from(until - used).unwrap_or(i64::MAX));
    }

    /// Commits to a call: everything the guest learns from it follows from the record and from
    /// what was there before.
    fn log(&mut self, call: HostCall, code: u8, errno: u32, args: &[u64]) {
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend_from_slice(&[call as u8, code]);
        record.extend_from_slice(&self.gas_used.to_le_bytes());
        record.extend_from_slice(&errno.to_le_bytes());
        record.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        self.host_log.field(&record);
    }

    /// Keeps an answer of the mesh and commits to it.
    pub(super) fn log_inbound(&mut self, answer: Inbound) {
        let bytes = minicbor::to_vec(&answer).unwrap_or_default();
        self.host_log.field(&bytes);
        self.mesh.inbound.push(answer);
    }

    /// Gas until the next checkpoint. Memory and files both make it longer.
    fn interval(&self, guest: &mut dyn Guest) -> u64 {
        let pages = self.pages(guest);
        self.command.policy.checkpoint_interval(pages.saturating_add(self.world.files.footprint_pages()))
    }

    pub(super) fn checkpoint(&mut self, guest: &mut dyn Guest, is_last: bool) {
        let pages = self.pages(guest);
        self.peak_pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let depth = guest.depth();
        let (mut globals, mut memories) = (Vec::new(), Vec::new());
        for (instance, tree) in self.memories.iter_mut().enumerate() {
            guest.select(instance);
            guest.globals(&mut globals);
            memories.push(tree.root(guest.memory(), is_last));
        }
        guest.select(self.active);
        let moment = Moment {
            gas_used: self.gas_used,
            pages,
            memories: &memories,
            globals: &globals,
            depth,
            host_log: self.host_log.digest(),
            files: self.world.files.root(),
        };
        self.chain.push(&moment);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("capsule_id", &self.command.capsule_id)
            .field("gas_used", &self.gas_used)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wall-clock backstop; it aborts a run and enters no result"
)]
fn now() -> Instant {
    Instant::now()
}
