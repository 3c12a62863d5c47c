//! The only clock of the program, and an exact alarm on it.
//!
//! It is CLOCK_BOOTTIME: `std::time::Instant` stands still while a machine is
//! suspended, and time that passed unseen must count. The alarm is a timer of
//! the kernel on the same clock: tokio's own fires up to a few milliseconds
//! late, as it counts in milliseconds and rounds up.

use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use gateway_queue_core::protocol::request;
use gateway_queue_core::time::Moment;
use jiff::Timestamp;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

const SECOND: u64 = 1_000_000_000;

/// What this clock says as the machine boots. Who has waited elsewhere came before
/// that, perhaps, and has a moment of its own all the same.
const BOOT: u64 = request::OLDEST.as_secs() * SECOND;

/// The present moment.
pub fn now() -> Moment {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    // The boot clock starts at 0 and its nanoseconds are below a second.
    Moment::from_nanos(BOOT + tv_sec as u64 * SECOND + tv_nsec as u64)
}

/// The wall clock's time, for people and for what is compared in minutes. A clock
/// that is set beyond the last date there is shows that date.
pub fn wall() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}

/// Rings at a moment that may be moved at any time.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set_to: Option<Moment>,
}

impl Alarm {
    /// An alarm that is not set. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel has no timer for us, which is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // Deprecated because some types give away a descriptor that they do
        // not own; an `OwnedFd` owns it. The successor is an unsafe function.
        #[allow(deprecated)]
        let timer = AsyncFd::new(timer)?;
        Ok(Self {
            timer,
            set_to: None,
        })
    }

    /// Sets it to `at`, which may be past, or to never.
    ///
    /// # Errors
    ///
    /// As the kernel says; it has no reason to.
    pub fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
        if at == self.set_to {
            return Ok(());
        }
        // To the kernel, 0 is never.
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

    /// Waits until it rings. It is not set any more then. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    ///
    /// As the kernel says; it has no reason to.
    pub async fn ring(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
            // A timer that was moved after it rang has nothing to read.
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
    async fn it_rings_at_its_moment_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        let at = now() + Duration::from_millis(30);
        alarm.set(Some(at)).unwrap();
        alarm.ring().await.unwrap();
        assert!(now() >= at);
        // Past moments ring at once; the same moment may be set again.
        alarm.set(Some(at)).unwrap();
        alarm.ring().await.unwrap();
    }

    #[tokio::test]
    async fn it_can_be_moved_and_stopped() {
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
