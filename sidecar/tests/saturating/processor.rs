//! How much of a delay the processors explain, which a busy machine gives to other programs.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// The state of the processors, read between two instants.
pub(crate) struct Sample {
    began: SystemTime,
    ended: SystemTime,
    /// How long the server's threads together have been ready to run without a processor.
    waited: Duration,
    /// How much later than planned this thread woke: also if the whole machine stood still.
    overslept: Duration,
}

/// Takes samples of this process until `over`.
pub(crate) fn watch(process: u32, over: &AtomicBool) -> Vec<Sample> {
    let mut samples = vec![Sample::take(process, Duration::ZERO)];
    let mut is_over = false;
    while !is_over {
        is_over = over.load(Ordering::Relaxed);
        let wake_at = Instant::now() + SAMPLE_INTERVAL;
        thread::sleep(SAMPLE_INTERVAL);
        samples.push(Sample::take(process, wake_at.elapsed()));
    }
    samples
}

impl Sample {
    fn take(process: u32, overslept: Duration) -> Self {
        let began = SystemTime::now();
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let waits = threads.map(|thread| {
            // The fields are the time on a processor, the time ready to run, and the runs.
            let stat = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            let wait = stat.split_whitespace().nth(1).unwrap();
            wait.parse::<u64>().unwrap()
        });
        Self {
            began,
            waited: Duration::from_nanos(waits.sum()),
            ended: SystemTime::now(),
            overslept,
        }
    }
}

/// Returns how much of the time between two instants the processors explain: the time that the
/// server's threads waited for one, or the longest delay of the thread that took the samples.
pub(crate) fn explained(samples: &[Sample], from: SystemTime, until: SystemTime) -> Duration {
    let first = samples.partition_point(|sample| sample.ended <= from);
    let last = samples.partition_point(|sample| sample.began < until);
    let last = last.min(samples.len() - 1);
    let around = &samples[first.saturating_sub(1)..=last];
    let (before, after) = (&around[0], &around[around.len() - 1]);
    let overslept = around.iter().map(|sample| sample.overslept).max();
    let waited = after.waited.saturating_sub(before.waited);
    waited.max(overslept.unwrap_or_default())
}
