//! Looking at the nodes while they work.

use std::time::Instant;

use crate::control::{Request, Response};
use crate::event::Event;

use super::host::Host;
use super::{Demo, DemoError, LOOK, PATIENCE, millis};

impl Demo<'_> {
    /// Reads what is new at every node.
    pub(super) async fn look(&mut self) -> Result<(), DemoError> {
        for index in 0..self.hosts.len() {
            let host = self.host(index);
            if !host.is_alive() {
                continue;
            }
            let request = Request::Events { since: host.cursor, wait_ms: 0 };
            let Response::Events { entries } = host.ask(request).await? else {
                return Err(DemoError::Protocol);
            };
            let name = host.name.clone();
            for entry in entries {
                if let Some(host) = self.hosts.get_mut(index) {
                    host.cursor = entry.seq + 1;
                }
                self.report.absorb(&self.names, &name, &entry.event);
                self.events.push((index, entry.event));
            }
        }
        Ok(())
    }

    /// Looks again and again until `missing` says that nothing is.
    pub(super) async fn until(
        &mut self,
        phase: &'static str,
        mut missing: impl AsyncFnMut(&Self) -> Result<Option<String>, DemoError>,
    ) -> Result<(), DemoError> {
        let begin = Instant::now();
        loop {
            self.look().await?;
            match missing(self).await? {
                None => return Ok(()),
                Some(waiting_for) if begin.elapsed() > PATIENCE => {
                    return Err(DemoError::Timeout { phase, waiting_for });
                }
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    pub(super) async fn until_event(
        &mut self,
        phase: &'static str,
        index: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<(), DemoError> {
        self.until(phase, async |demo| Ok((!demo.saw(index, &wanted)).then(|| demo.host(index).name.clone())))
            .await
    }

    pub(super) fn saw(&self, index: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.count(index, wanted) > 0
    }

    pub(super) fn count(&self, index: usize, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(at, event)| *at == index && wanted(event)).count()
    }

    pub(super) fn find<T>(&self, index: usize, pick: impl Fn(&Event) -> Option<T>) -> Option<T> {
        self.events.iter().filter(|(at, _)| *at == index).find_map(|(_, event)| pick(event))
    }

    /// Living nodes other than `index`.
    pub(super) fn others(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let alive = self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive());
        alive.map(|(other, _)| other).filter(move |&other| other != index)
    }

    #[expect(clippy::indexing_slicing, reason = "every index is of the range of `hosts`, which only grows")]
    pub(super) fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    pub(super) fn say(&mut self, text: &str) {
        let at = self.began.elapsed().as_secs_f32();
        (self.progress)(&format!("[{at:6.2} s] {text}"));
    }

    pub(super) fn end_phase(&mut self, name: &'static str, begin: Instant) {
        self.report.elapsed_ms.0.push((name, millis(begin.elapsed())));
    }
}
