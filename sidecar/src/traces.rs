//! What is traced: one span for each identify request, from its arrival to its
//! end, and one for each question to Discord.
//!
//! A span is made when it is over. While a request waits, a build without traces
//! keeps nothing for it, and one with traces 16 bytes. Nothing but the parsed
//! shard is in it: not the client's own trace either, as its headers are gone
//! before it waits.

use std::time::Duration;

use gateway_queue_telemetry::{Fields, ended};

use crate::clock;
use crate::moment::Moment;
use crate::pacer::Grant;

const IDENTIFY: &str = "identify";

/// A grant of ours was written at `at`.
pub fn granted(grant: &Grant, at: Moment) {
    let waited = at.since(grant.arrived);
    ended(IDENTIFY, waited, |fields| {
        said(fields, grant.shard, waited, "granted");
        fields.number("bucket", grant.bucket);
        fields.number("late_us", at.since(grant.allowed).as_micros());
    });
}

/// A grant of ours found nobody to write it to.
pub fn unwritten(grant: &Grant) {
    let waited = clock::now().since(grant.arrived);
    ended(IDENTIFY, waited, |fields| {
        said(fields, grant.shard, waited, "unwritten");
        fields.number("bucket", grant.bucket);
    });
}

fn said(fields: &mut Fields, shard: u32, waited: Duration, outcome: &'static str) {
    fields.number("shard", shard);
    fields.number("waited_ms", waited.as_millis());
    fields.word("outcome", outcome);
}

/// Discord was asked; what came of it is told as in the metrics.
pub fn fetched(took: Duration, outcome: &'static str) {
    ended("fetch", took, |fields| fields.word("outcome", outcome));
}

/// A request of a client that waits. Unless something else is said it has gone
/// when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    #[cfg(feature = "otel")]
    shard: u32,
    #[cfg(feature = "otel")]
    arrived: Moment,
}

#[cfg_attr(not(feature = "otel"), allow(unused_variables))]
impl Waiting {
    /// From its arrival on.
    pub fn new(shard: u32, arrived: Moment) -> Self {
        Self {
            #[cfg(feature = "otel")]
            shard,
            #[cfg(feature = "otel")]
            arrived,
        }
    }

    /// It has ended like this.
    pub fn ended(self, outcome: &'static str) {
        #[cfg(feature = "otel")]
        {
            self.say(outcome);
            std::mem::forget(self);
        }
    }

    /// Its grant tells the rest.
    pub fn has_a_grant(self) {
        #[cfg(feature = "otel")]
        std::mem::forget(self);
    }

    #[cfg(feature = "otel")]
    fn say(&self, outcome: &'static str) {
        let waited = clock::now().since(self.arrived);
        ended(IDENTIFY, waited, |fields| {
            said(fields, self.shard, waited, outcome);
        });
    }
}

#[cfg(feature = "otel")]
impl Drop for Waiting {
    fn drop(&mut self) {
        self.say("gone");
    }
}

#[cfg(all(test, not(feature = "otel")))]
mod tests {
    use super::*;

    #[test]
    fn without_traces_who_waits_takes_no_memory_for_them() {
        assert_eq!(size_of::<Waiting>(), 0);
    }
}
