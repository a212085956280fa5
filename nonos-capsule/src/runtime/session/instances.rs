//! The instances of a run: which one runs, and the memories of all.

use std::sync::Arc;

use super::Session;
use crate::checkpoint::WASM_PAGE_BYTES;
use crate::execution::{Status, TrapCode};
use crate::runtime::engine::{Guest, Stop};
use crate::runtime::guest::{BadPointer, GuestMemory};

/// Gas of a call into a library: two calls of the host.
const LIBRARY_CALL_GAS: i64 = 200;

/// Most bytes that are in the host's hands on their way from one memory to another.
const COPY_BYTES: u32 = 1 << 16;

/// The instances of a run in their order, the capsule's own first: for each the instances of its
/// libraries, in the order of their names.
pub(in crate::runtime) type Instances = Arc<[Vec<usize>]>;

/// The instances of a run without libraries.
pub(in crate::runtime) fn alone() -> Instances {
    Arc::new([Vec::new()])
}

impl Session {
    /// The instance that runs calls into another: what is left of gas and stack goes with it.
    /// `slots` are those of the frame between the two.
    ///
    /// # Errors
    /// [`Stop`] if the stack is at its end.
    pub fn enter(&mut self, instance: usize, slots: u32, guest: &mut dyn Guest) -> Result<(), Stop> {
        let gas = guest.gas().saturating_sub(LIBRARY_CALL_GAS);
        let depth = guest.depth().saturating_sub_unsigned(slots);
        self.pass(instance, gas, depth, guest);
        if depth < 0 {
            return Err(self.stop(Ok(Status::Trap(TrapCode::StackLimit))));
        }
        Ok(())
    }

    /// The call returns to the instance that made it.
    pub fn leave(&mut self, instance: usize, slots: u32, guest: &mut dyn Guest) {
        let (gas, depth) = (guest.gas(), guest.depth().saturating_add_unsigned(slots));
        self.pass(instance, gas, depth, guest);
    }

    fn pass(&mut self, instance: usize, gas: i64, depth: i32, guest: &mut dyn Guest) {
        self.active = instance;
        guest.select(instance);
        guest.set_gas(gas);
        guest.set_depth(depth);
    }

    /// Pages of 64 KiB of all memories.
    pub(in crate::runtime) fn pages(&self, guest: &mut dyn Guest) -> u64 {
        let mut bytes: u64 = 0;
        for instance in 0..self.command.instances.len() {
            bytes = bytes.saturating_add(self.within(instance, guest, |memory| memory.0.len() as u64));
        }
        bytes / WASM_PAGE_BYTES as u64
    }

    /// The instance of a library by its number among those of the instance that runs.
    pub(in crate::runtime) fn library(&self, number: u32) -> Option<usize> {
        self.command.instances.get(self.active)?.get(number as usize).copied()
    }

    pub(in crate::runtime) const fn active(&self) -> usize {
        self.active
    }

    /// Copies between two memories, instance and address each: all of it or nothing.
    pub(in crate::runtime) fn copy(
        &self,
        (from, source): (usize, u32),
        (to, target): (usize, u32),
        len: u32,
        guest: &mut dyn Guest,
    ) -> Result<(), BadPointer> {
        self.within(from, guest, |memory| memory.slice(source, len).map(|_| ()))?;
        self.within(to, guest, |memory| memory.slice(target, len).map(|_| ()))?;
        let mut copied = 0;
        while copied < len {
            let size = (len - copied).min(COPY_BYTES);
            let bytes =
                self.within(from, guest, |memory| memory.slice(source + copied, size).map(<[u8]>::to_vec))?;
            self.within(to, guest, |memory| memory.write(target + copied, &bytes))?;
            copied += size;
        }
        Ok(())
    }

    /// Acts on the memory of any instance.
    fn within<R>(
        &self,
        instance: usize,
        guest: &mut dyn Guest,
        act: impl FnOnce(&mut GuestMemory<'_>) -> R,
    ) -> R {
        guest.select(instance);
        let result = act(&mut GuestMemory(guest.memory()));
        guest.select(self.active);
        result
    }
}

#[cfg(test)]
mod tests {
    use nonos_identity::{NetworkId, NodeId, Timestamp, WideDigest};

    use super::*;
    use crate::capsule::CapsuleId;
    use crate::execution::{Execution, Invocation};
    use crate::mesh_port::NoMesh;
    use crate::policy::Policy;
    use crate::runtime::engine::End;
    use crate::runtime::session::{Code, Command};

    /// A command and its library.
    #[derive(Clone, Default)]
    struct Two {
        selected: usize,
        memories: [Vec<u8>; 2],
        globals: [Vec<u8>; 2],
        gas: [i64; 2],
        depth: [i32; 2],
    }

    impl Guest for Two {
        fn select(&mut self, instance: usize) {
            self.selected = instance;
        }

        fn memory(&mut self) -> &mut [u8] {
            &mut self.memories[self.selected]
        }

        fn gas(&mut self) -> i64 {
            self.gas[self.selected]
        }

        fn set_gas(&mut self, gas: i64) {
            self.gas[self.selected] = gas;
        }

        fn depth(&mut self) -> i32 {
            self.depth[self.selected]
        }

        fn set_depth(&mut self, depth: i32) {
            self.depth[self.selected] = depth;
        }

        fn globals(&mut self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.globals[self.selected]);
        }
    }

    fn session() -> Session {
        let id = CapsuleId::from_digest(WideDigest::of_bytes(b"two"));
        let network = NetworkId::from_name("test");
        let invocation =
            Invocation::new(NodeId::from_bytes([1; 32]), [2; 32], Timestamp::from_secs(1), network);
        let instances: Instances = Arc::new([vec![1], Vec::new()]);
        let command =
            Command::new(id, Code::NONE, Policy::default(), "_start".to_owned()).with_instances(instances);
        Session::new(Arc::new(command), invocation, Box::new(NoMesh))
    }

    fn two() -> Two {
        Two { memories: [vec![0; WASM_PAGE_BYTES], vec![0; 2 * WASM_PAGE_BYTES]], ..Two::default() }
    }

    fn execution(mut guest: Two) -> Execution {
        let mut session = session();
        session.begin(&mut guest);
        session.end(End::Returned, Some(&mut guest));
        session.into_execution().unwrap()
    }

    #[test]
    fn checkpoints_commit_to_every_memory_and_global() {
        let untouched = execution(two());
        assert_eq!(untouched.peak_pages, 3);
        let mut last = vec![*untouched.checkpoints.last().unwrap()];
        for instance in 0..2 {
            let (mut memory, mut globals) = (two(), two());
            memory.memories[instance][4_096] = 1;
            globals.globals[instance] = vec![u8::try_from(instance).unwrap()];
            for changed in [memory, globals] {
                last.push(*execution(changed).checkpoints.last().unwrap());
            }
        }
        for (position, link) in last.iter().enumerate() {
            assert!(!last[..position].contains(link), "{position}");
        }
    }

    #[test]
    fn gas_and_slots_go_along_and_come_back() {
        let (mut session, mut guest) = (session(), two());
        session.begin(&mut guest);
        let (gas, depth) = (guest.gas(), guest.depth());
        session.enter(1, 20, &mut guest).unwrap();
        assert_eq!((guest.selected, guest.gas(), guest.depth()), (1, gas - LIBRARY_CALL_GAS, depth - 20));
        assert_eq!(session.library(0), None, "the library has none");
        guest.set_gas(gas - 1_000);
        session.leave(0, 20, &mut guest);
        assert_eq!((guest.selected, guest.gas(), guest.depth()), (0, gas - 1_000, depth));
        assert_eq!((session.library(0), session.library(1)), (Some(1), None));
        guest.set_depth(19);
        assert_eq!(session.enter(1, 20, &mut guest), Err(Stop));
        session.end(End::Stopped, Some(&mut guest));
        let execution = session.into_execution().unwrap();
        assert_eq!(execution.status, Status::Trap(TrapCode::StackLimit));
        assert_eq!(execution.gas_used, 1_000 + LIBRARY_CALL_GAS.unsigned_abs());
    }

    #[test]
    fn a_copy_is_whole_or_none() {
        let (session, mut guest) = (session(), two());
        let len = 2 * COPY_BYTES;
        for (place, byte) in guest.memories[1].iter_mut().enumerate() {
            *byte = u8::try_from(place % 251).unwrap();
        }
        assert_eq!(session.copy((1, 0), (0, 0), len, &mut guest), Err(BadPointer));
        assert_eq!(guest.memories[0], two().memories[0], "nothing was copied");
        guest.memories[0].resize(WASM_PAGE_BYTES * 3, 0);
        assert_eq!(session.copy((1, 1), (0, 2), len - 1, &mut guest), Ok(()));
        assert_eq!(guest.memories[0][2..][..len as usize - 1], guest.memories[1][1..]);
        assert_eq!(guest.selected, 0);
    }
}
