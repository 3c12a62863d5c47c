//! The right to write one grant.

use tokio::sync::mpsc::UnboundedSender;

use crate::handle::Event;
use crate::moment::Moment;
use crate::pacer::Grant;

/// Goes from the keeper to the socket. It says what became of the grant: that
/// it was written and when, or, when it is dropped, that it was not.
#[derive(Debug)]
pub struct Permit {
    grant: Grant,
    events: Option<UnboundedSender<Event>>,
}

impl Permit {
    pub(crate) fn new(grant: Grant, events: UnboundedSender<Event>) -> Self {
        Self {
            grant,
            events: Some(events),
        }
    }

    /// The grant went out at `at`, or it cannot be ruled out that it did.
    pub fn written(mut self, at: Moment) {
        let grant = self.grant;
        self.report(Event::Written { grant, at });
    }

    fn report(&mut self, event: Event) {
        if let Some(events) = self.events.take() {
            // Without a keeper, the process is ending.
            let _ = events.send(event);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.report(Event::Unwritten(self.grant.waiter));
    }
}
