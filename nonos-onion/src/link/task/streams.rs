//! Bytes between the machine's streams and those of the application.

use std::sync::Arc;

use super::{Opening, Task};
use crate::circuit::StreamId;
use crate::link::handle::IncomingStream;
use crate::link::stream::{OnionStream, PIPE_BYTES, Pipe};

/// Bytes of one stream sent before it is another's turn.
const TURN_BYTES: usize = 32 * 996;

impl Task {
    pub(super) fn offered(&mut self, id: StreamId, port: u16) {
        let now = self.now();
        let Some(notices) = self.notices.upgrade() else { return };
        let Ok(place) = self.incoming.try_reserve() else {
            self.machine.refuse(now, id);
            return;
        };
        let pipe = Arc::new(Pipe::default());
        self.pipes.insert(id, Arc::clone(&pipe));
        let stream = OnionStream::new(id, pipe, notices, None);
        place.send(IncomingStream { port, stream, circuit: id.circuit });
        self.machine.accept(now, id);
    }

    pub(super) fn opened(&mut self, id: StreamId) {
        let Some(Opening { circuit, reply }) = self.opening.remove(&id) else { return };
        let pipe = Arc::new(Pipe::default());
        self.pipes.insert(id, Arc::clone(&pipe));
        let notices = circuit.notices.clone();
        let _ = reply.send(Ok(OnionStream::new(id, pipe, notices, Some(circuit))));
    }

    /// Moves bytes from the machine to the application, as far as they fit.
    pub(super) fn pump_in(&mut self, stream: StreamId) {
        let now = self.now();
        let Some(pipe) = self.pipes.get(&stream) else { return };
        let room = PIPE_BYTES.saturating_sub(pipe.lock().received.len());
        self.scratch.clear();
        let read = self.machine.read(now, stream, room, &mut self.scratch);
        let mut state = pipe.lock();
        state.received.extend(&self.scratch);
        state.more = read.more;
        state.received_end |= read.end;
        state.wake_reader();
    }

    /// Moves bytes from the application to the machine: one turn, as far as the windows allow.
    pub(super) fn pump_out(&mut self, stream: StreamId) {
        let now = self.now();
        let Some(pipe) = self.pipes.get(&stream) else { return };
        let (waiting, shut) = {
            let state = pipe.lock();
            (state.to_send.len(), state.shut && !state.finished)
        };
        let mut left = waiting;
        if waiting > 0 {
            let count = self.machine.sendable_bytes(stream).min(TURN_BYTES).min(waiting);
            if count == 0 {
                return;
            }
            self.scratch.clear();
            {
                let mut state = pipe.lock();
                let (front, back) = state.to_send.as_slices();
                let from_front = count.min(front.len());
                self.scratch.extend_from_slice(front.get(..from_front).unwrap_or_default());
                self.scratch.extend_from_slice(back.get(..count - from_front).unwrap_or_default());
                state.to_send.drain(..count);
                left = state.to_send.len();
                state.wake_writer();
            }
            self.machine.write(now, stream, &self.scratch);
        }
        if left > 0 {
            self.turns.push_back(stream);
        } else if shut {
            self.machine.finish(now, stream);
            let mut state = pipe.lock();
            state.finished = true;
            state.wake_writer();
        }
    }
}
