//! The clock of the program, and a precise alarm on it.
//!
//! The clock is CLOCK_BOOTTIME, which keeps running while the machine is suspended;
//! `std::time::Instant` does not. The alarm is a kernel timer on this clock: timers of
//! tokio are rounded to milliseconds, and fire up to a few of them late.

use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use gateway_queue_core::protocol::peer;
use gateway_queue_core::time::Moment;
use jiff::Timestamp;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

const SECOND: u64 = 1_000_000_000;

/// The time on this clock when the machine boots. A forwarded request may have arrived at
/// another pod before that.
const BOOT: u64 = peer::MAX_AGE.as_secs() * SECOND;

/// Returns the current time.
pub fn now() -> Moment {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    // The boot clock starts at 0 and its nanoseconds are below a second.
    Moment::from_nanos(BOOT + tv_sec as u64 * SECOND + tv_nsec as u64)
}

/// Returns the time of the wall clock, for people and for comparisons in minutes. It is
/// the last valid date if the clock is set beyond that.
pub fn wall() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}

/// An alarm that may be set to another time at any time.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set_to: Option<Moment>,
}

impl Alarm {
    /// Returns an alarm that is not set. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a timer, for example without a free file descriptor.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // Deprecated because some types do not own their descriptor; an `OwnedFd` does.
        // Its successor is an unsafe function.
        #[allow(deprecated)]
        let timer = AsyncFd::new(timer)?;
        Ok(Self {
            timer,
            set_to: None,
        })
    }

    /// Sets the alarm to `at`, which may be in the past, or unsets it.
    pub fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
        if at == self.set_to {
            return Ok(());
        }
        // The kernel takes 0 for unset.
        let nanos = at.map_or(0, |at| at.as_nanos().saturating_sub(BOOT).max(1));
        let timespec = |nanos: u64| Timespec {
            tv_sec: (nanos / SECOND) as i64,
            tv_nsec: (nanos % SECOND) as i64,
        };
        let setting = Itimerspec {
            it_interval: timespec(0),
            it_value: timespec(nanos),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting)?;
        self.set_to = at;
        Ok(())
    }

    /// Waits until the alarm rings, after which it is unset. Cancel-safe.
    pub async fn ring(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
            // A timer that was set again after it rang has nothing to read.
            if let Ok(read) = read {
                read?;
                self.set_to = None;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_time_set_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        let at = now() + Duration::from_millis(30);
        alarm.set(Some(at)).unwrap();
        alarm.ring().await.unwrap();
        assert!(now() >= at);
        // A past time rings immediately; the same time may be set again.
        alarm.set(Some(at)).unwrap();
        alarm.ring().await.unwrap();
    }

    #[tokio::test]
    async fn it_can_be_set_again_and_unset() {
        let mut alarm = Alarm::new().unwrap();
        let start = now();
        alarm.set(Some(start + Duration::from_millis(1))).unwrap();
        alarm.set(Some(start + Duration::from_millis(60))).unwrap();
        alarm.ring().await.unwrap();
        assert!(now().since(start) >= Duration::from_millis(60));
        alarm.set(Some(now() + Duration::from_millis(20))).unwrap();
        alarm.set(None).unwrap();
        let rang = tokio::time::timeout(Duration::from_millis(60), alarm.ring()).await;
        assert!(rang.is_err());
    }
}
