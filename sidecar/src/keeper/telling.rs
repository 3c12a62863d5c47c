//! What the keeper tells: the log, the logbook, and who looks.

use gateway_queue_logbook::{Entry, SessionStarts};
use jiff::{SignedDuration, Timestamp, Unit};
use tracing::{info, warn};

use super::Keeper;
use crate::handle::Detail;
use crate::limits::Limits;
use crate::logbook::Page;
use crate::moment::Moment;
use crate::secret::BotToken;
use crate::standing::Leader;
use crate::state::Snapshot;
use crate::token::Current;

impl Keeper {
    /// Says in the log and in the logbook what changed.
    pub(super) fn tell(&mut self) {
        if self.term.is_none() {
            return;
        }
        let hold = self.queue.hold();
        if self.told != Some(hold) {
            match hold {
                Some(hold) => warn!(reason = hold.word(), "nothing is granted"),
                None => info!("shards may identify, as soon as their buckets are free"),
            }
            self.told = Some(hold);
        }
        self.tell_the_logbook();
    }

    pub(super) fn tell_the_logbook(&self) {
        self.logbook.send_if_modified(|page| {
            let new = self.page(page);
            let modified = new != *page;
            *page = new;
            modified
        });
    }

    fn page(&self, before: &Page) -> Page {
        let budget = self.queue.budget();
        let entry = Entry {
            holder: before.entry.holder.clone(),
            token: budget.token(),
            hold: self.queue.hold(),
            detail: self.trouble(),
            max_concurrency: self.queue.concurrency(),
            recommended_shards: budget.limits().map(|limits| limits.shards),
            session_starts: budget
                .limits()
                .zip(budget.remaining())
                .map(|(limits, remaining)| SessionStarts {
                    total: limits.total,
                    remaining,
                    reset_time: self.reset_time,
                }),
        };
        Page {
            entry,
            token_mark: self.last_token.as_ref().map(BotToken::mark),
        }
    }

    /// What is wrong with the token or with Discord, for a person.
    fn trouble(&self) -> Option<String> {
        match &*self.tokens.borrow() {
            Current::Missing(why) => Some(why.clone()),
            _ => self.queue.budget().trouble().map(str::to_owned),
        }
    }

    pub(super) fn snapshot(&self, detail: Detail, now: Moment) -> Snapshot {
        let budget = self.queue.budget();
        let standing = self.standing.borrow();
        let leads = self.term.is_some();
        let lanes: Vec<_> = match leads {
            true => self.queue.lanes(detail.most_shards()).collect(),
            false => Vec::new(),
        };
        let leader = standing.leader.as_ref();
        Snapshot {
            taken: now,
            role: standing.role(now),
            leader: leader.map(|leader| leader.address),
            leader_pod: leader.and_then(Leader::pod).map(str::to_owned),
            leader_silent: false,
            token: budget.token(),
            hold: self.queue.hold().filter(|_| leads),
            trouble: self.trouble(),
            fetch_at: self.queue.fetch_at().filter(|_| leads),
            held: u64::try_from(self.metrics.held()).unwrap_or(0),
            max_concurrency: self.queue.concurrency(),
            limits: budget.limits(),
            remaining: budget.remaining(),
            reset_time: self.reset_time,
            waiting: lanes.iter().map(|lane| lane.waiting).sum(),
            buckets: lanes.len(),
            lanes,
            granted: match detail {
                Detail::Numbers => Vec::new(),
                Detail::Shards | Detail::Brief => self.granted.iter().copied().collect(),
            },
        }
    }
}

/// When the open window ends, on the wall clock, to the second; none when no
/// window is open.
pub(super) fn reset_time(limits: &Limits) -> Option<Timestamp> {
    let after = SignedDuration::try_from(limits.reset_after).ok()?;
    let time = Timestamp::now().checked_add(after).ok()?;
    let time = time.round(Unit::Second).ok()?;
    (!limits.reset_after.is_zero()).then_some(time)
}

/// The old time when the new one is the same but for the network's jitter: who
/// writes it down need not write again.
pub(super) fn steady(old: Option<Timestamp>, new: Option<Timestamp>) -> Option<Timestamp> {
    let close = |(old, new): (Timestamp, Timestamp)| (new.as_second() - old.as_second()).abs() <= 2;
    if old.zip(new).is_some_and(close) {
        old
    } else {
        new
    }
}
