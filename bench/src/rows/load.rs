//! The cost of clients that connect, wait and disconnect.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::clients::Clients;
use crate::server::Side;

/// How many clients wait and disconnect before anything is measured.
const WARM_UP: u32 = 64;

/// What a number of clients cost a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// The additional memory while all of them wait, in KiB.
    pub(super) memory_kib: f64,
    /// The processor time to accept and queue them.
    pub(super) accept: Duration,
    /// The processor time to cancel them.
    pub(super) cancel: Duration,
}

impl Load {
    /// Lets this many clients wait at a new server with one bucket, and then disconnect.
    pub(super) fn measure(bench: &Bench, side: Side, clients: u32) -> Result<Self> {
        let server = bench.start(side, 1)?;
        let process = server.process();
        process.wait_for_rest()?;
        let idle_files = process.open_files()?;
        let pass = |count: u32| -> Result<Self> {
            let (memory, started) = (process.rss_kib()?, process.cpu()?);
            let mut waiting = Clients::new(server.address)?;
            waiting.connect_and_ask(count)?;
            let all = idle_files + count as usize;
            process.wait_for_files(|files| files >= all)?;
            process.wait_for_rest()?;
            let (full, accepted) = (process.rss_kib()?, process.cpu()?);
            drop(waiting);
            process.wait_for_files(|files| files <= idle_files)?;
            // The peer removes a cancelled waiter when the waiter's bucket grants.
            thread::sleep(bench.scale.removal);
            process.wait_for_rest()?;
            Ok(Self {
                memory_kib: full as f64 - memory as f64,
                accept: accepted.saturating_sub(started),
                cancel: process.cpu()?.saturating_sub(accepted),
            })
        };
        pass(WARM_UP.min(clients))?;
        pass(clients)
    }
}
