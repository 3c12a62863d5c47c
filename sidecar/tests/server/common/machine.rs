//! Whose turn it is on this machine: some tests measure times, and some keep it
//! busy. Those do not run beside each other.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct Tests {
    timed: usize,
    busy: usize,
}

static TESTS: Mutex<Tests> = Mutex::new(Tests { timed: 0, busy: 0 });
static ENDED: Condvar = Condvar::new();

/// While this is there nobody keeps the machine busy. A test may have several.
pub(crate) struct Timed(());

/// While this is there nobody measures times, or keeps the machine busy as well.
pub(crate) struct Busy(());

pub(crate) fn timed() -> Timed {
    when(|tests| tests.busy == 0).timed += 1;
    Timed(())
}

pub(crate) fn busy() -> Busy {
    when(|tests| tests.busy == 0 && tests.timed == 0).busy += 1;
    Busy(())
}

fn when(may: impl Fn(&Tests) -> bool) -> MutexGuard<'static, Tests> {
    let tests = TESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = ENDED.wait_while(tests, |tests| !may(tests));
    waited.unwrap_or_else(PoisonError::into_inner)
}

fn end(change: impl Fn(&mut Tests)) {
    change(&mut TESTS.lock().unwrap_or_else(PoisonError::into_inner));
    ENDED.notify_all();
}

impl Drop for Timed {
    fn drop(&mut self) {
        end(|tests| tests.timed -= 1);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        end(|tests| tests.busy -= 1);
    }
}
