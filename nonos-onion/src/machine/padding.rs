//! DROP cells: between a client and its first hop, both ways.

use core::time::Duration;

use super::transit::Transit;
use super::{Circuit, Machine};
use crate::cell::DestroyReason;
use crate::circuit::LocalCircuitId;
use crate::message::{Kind, Message};
#[cfg(feature = "padding")]
use crate::padding::Scheduler;
use crate::padding::{Ask, Count};

/// The padding of a circuit, as its client or as a hop that was asked for it.
#[derive(Debug, Default)]
pub(super) struct Padding {
    /// DROPs to a hundred other cells; 0 before anybody asked.
    percent: u8,
    pub(super) sent: Count,
    pub(super) received: Count,
    /// When the machine looks at this circuit next.
    armed: Option<Duration>,
    #[cfg(feature = "padding")]
    scheduler: Option<Box<Scheduler>>,
}

/// What happened to a cell of a circuit on the link where it is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Sent,
    Received,
}

impl Circuit {
    /// Whether its cells are counted for anything but streams; most are not, and cost no second look.
    pub(super) fn is_counted(&self) -> bool {
        match self {
            Self::Client(client) => client.padding.percent > 0,
            Self::Relay(relay) => {
                relay.padding.percent > 0 || relay.transit.as_ref().is_some_and(Transit::is_owed)
            }
            Self::Ended(_) => false,
        }
    }

    pub(super) const fn padding_mut(&mut self) -> Option<&mut Padding> {
        match self {
            Self::Client(client) => Some(&mut client.padding),
            Self::Relay(relay) => Some(&mut relay.padding),
            Self::Ended(_) => None,
        }
    }
}

impl Machine {
    /// Asks the first hop of a circuit that has just been built.
    pub(super) fn ask_for_padding(&mut self, circuit: LocalCircuitId) {
        let percent = self.config.limits.padding_percent;
        if percent > 0 {
            let data = &Ask { percent }.to_bytes();
            self.originate(circuit, 0, Message { stream: 0, kind: Kind::Padding, more: false, data });
            self.start_padding(circuit, percent, percent);
        }
    }

    /// A client asks this hop.
    pub(super) fn on_padding(&mut self, circuit: LocalCircuitId, data: &[u8]) {
        let own = self.config.limits.padding_percent;
        let asked = self
            .circuits
            .get_mut(&circuit)
            .and_then(Circuit::padding_mut)
            .is_some_and(|padding| padding.percent > 0);
        match Ask::read(data) {
            Ok(Ask { percent }) if !asked => self.start_padding(circuit, percent, percent.min(own)),
            _ => self.fail(circuit, DestroyReason::Protocol, None),
        }
    }

    /// Bears DROPs up to `percent` from now on, and sends some up to `own`.
    #[cfg_attr(not(feature = "padding"), expect(unused_variables, reason = "it sends none"))]
    fn start_padding(&mut self, circuit: LocalCircuitId, percent: u8, own: u8) {
        #[cfg(feature = "padding")]
        let scheduler = {
            let (now, seed) = (self.monotonic, self.draw_seed());
            if own > 0 { Scheduler::new(own, now, seed).map(Box::new) } else { None }
        };
        let Some(entry) = self.circuits.get_mut(&circuit).and_then(Circuit::padding_mut) else { return };
        *entry = Padding {
            percent,
            #[cfg(feature = "padding")]
            scheduler,
            ..Padding::default()
        };
    }

    /// Books a cell that is no DROP; worth the call only if [`Circuit::is_counted`].
    pub(super) fn padded_cell(&mut self, circuit: LocalCircuitId, passed: Passed) {
        #[cfg(feature = "padding")]
        let now = self.monotonic;
        let Some(padding) = self.circuits.get_mut(&circuit).and_then(Circuit::padding_mut) else { return };
        if padding.percent == 0 {
            return;
        }
        match passed {
            Passed::Sent => padding.sent.cells += 1,
            Passed::Received => padding.received.cells += 1,
        }
        #[cfg(feature = "padding")]
        if let Some(scheduler) = &mut padding.scheduler {
            scheduler.cell(passed == Passed::Sent, now);
            self.arm_padding(circuit);
        }
    }

    /// Drops a DROP; `hop` is to blame if it must not be. One beyond the budget costs the circuit.
    pub(super) fn on_drop(&mut self, circuit: LocalCircuitId, data: &[u8], hop: Option<usize>) {
        #[cfg(feature = "padding")]
        let now = self.monotonic;
        let Some(padding) = self.circuits.get_mut(&circuit).and_then(Circuit::padding_mut) else { return };
        let percent = padding.percent;
        let is_within = percent > 0 && data.is_empty() && padding.received.drop_cell(percent).is_ok();
        #[cfg(feature = "padding")]
        if let Some(scheduler) = &mut padding.scheduler {
            scheduler.dropped(now);
            self.arm_padding(circuit);
        }
        if !is_within {
            self.fail(circuit, DestroyReason::Protocol, hop);
        }
    }

    /// Sees to it that the machine looks at a circuit in time. What is armed for sooner stays: it looks then, and
    /// again, which is cheaper than to move a timer with each cell.
    #[cfg(feature = "padding")]
    fn arm_padding(&mut self, circuit: LocalCircuitId) {
        let Some(padding) = self.circuits.get_mut(&circuit).and_then(Circuit::padding_mut) else { return };
        let Some(due) = padding.scheduler.as_ref().and_then(|scheduler| scheduler.due()) else { return };
        match padding.armed {
            Some(armed) if armed <= due => return,
            Some(armed) => self.paddings.remove(&(armed, circuit)),
            None => false,
        };
        padding.armed = Some(due);
        self.paddings.insert((due, circuit));
    }

    /// Sends the DROPs that are due.
    pub(super) fn pad(&mut self) {
        while let Some(&(at, circuit)) = self.paddings.first() {
            if at > self.monotonic {
                break;
            }
            self.paddings.pop_first();
            self.pad_circuit(circuit);
        }
    }

    #[cfg(not(feature = "padding"))]
    fn pad_circuit(&mut self, _: LocalCircuitId) {}

    #[cfg(feature = "padding")]
    fn pad_circuit(&mut self, circuit: LocalCircuitId) {
        let now = self.monotonic;
        let waits = self.waits_at_padded_link(circuit);
        let own = self.config.limits.padding_percent;
        let Some(padding) = self.circuits.get_mut(&circuit).and_then(Circuit::padding_mut) else { return };
        padding.armed = None;
        let percent = padding.percent.min(own);
        let Some(scheduler) = &mut padding.scheduler else { return };
        if scheduler.due().is_some_and(|due| due <= now) {
            if waits {
                // What waits hides as well, and a queue is not to grow by padding.
                scheduler.sent(now);
            } else if padding.sent.drop_cell(percent).is_ok() {
                scheduler.sent(now);
                self.originate(circuit, 0, Message { stream: 0, kind: Kind::Drop, more: false, data: &[] });
            } else {
                scheduler.skip();
            }
        }
        self.arm_padding(circuit);
    }

    /// Whether cells of a circuit wait for the link where it is padded.
    #[cfg(feature = "padding")]
    fn waits_at_padded_link(&self, circuit: LocalCircuitId) -> bool {
        let route = match self.circuits.get(&circuit) {
            Some(Circuit::Client(client)) => client.route,
            Some(Circuit::Relay(relay)) => Some(relay.prev),
            Some(Circuit::Ended(_)) | None => None,
        };
        route
            .and_then(|(link, id)| Some(self.links.get(&link)?.routes.waiting(id)))
            .is_some_and(|waiting| waiting > 0)
    }

    /// Takes a circuit that is over from those that are padded.
    pub(super) fn stop_padding(&mut self, circuit: LocalCircuitId, padding: &Padding) {
        if let Some(at) = padding.armed {
            self.paddings.remove(&(at, circuit));
        }
    }

    /// Cells and DROPs that a node sent and received of each padded circuit.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn padding_counts(&mut self) -> Vec<[(u64, u64); 2]> {
        let padded = self.circuits.values_mut().filter_map(Circuit::padding_mut);
        let counts = |count: &Count| (count.cells, count.drops);
        padded
            .filter(|padding| padding.percent > 0)
            .map(|padding| [counts(&padding.sent), counts(&padding.received)])
            .collect()
    }
}
