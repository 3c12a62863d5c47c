//! A pod: the real candidate and the real queue of a term. Their two tasks are simulated: the
//! clocks, the network, the sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_queue_core::bot_token::{BotToken, Current};
use gateway_queue_core::leadership::candidate::{Action, Candidate};
use gateway_queue_core::leadership::election::Config;
use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::Handover;
use gateway_queue_core::lease_state::last_known::{LastKnown, PublishedState};
use gateway_queue_core::pacing::budget::Rules;
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::pacing::scheduler::Config as QueueConfig;
use gateway_queue_core::pacing::shard_history::ShardLimit;
use gateway_queue_core::queue::snapshot::{Detail, LeaderView, Snapshot};
use gateway_queue_core::queue::term_queue::TermQueue;
use gateway_queue_core::testing::judge::Written;
use gateway_queue_core::time::Moment;
use jiff::{SignedDuration, Timestamp};

use crate::api::{Answer, Kind, Request, Sent};
use crate::clock::{Clock, True};
use crate::signals::{Effect, Held, Input};
use crate::story::{Broken, Settings};

pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Two for each bucket of a story. They always return.
pub(crate) const SHARDS: u32 = 8;

/// How long the candidate task waits until the grants of a term are written.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) number: usize,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    broken: Broken,
    candidate: Candidate,
    queue: TermQueue,
    /// The leadership state of the candidate, and the one that the queue received.
    candidate_state: LeadershipState,
    state: LeadershipState,
    /// The grants of the last term, for a broken handover.
    granted: BTreeMap<u32, Moment>,
    /// The pending request to the API server.
    pub(crate) request: Option<u64>,
    watch: Option<u64>,
    fetch: Option<u64>,
    /// The Lease and the term whose handover is pending, and until when.
    settle: Option<(String, Term, Moment)>,
    /// For requests, watches, fetches and waiters.
    ids: u64,
    /// The Lease as it was last read, and as it was before it was acquired.
    read: Option<LeaseObject>,
    acquired: Option<LeaseObject>,
    /// Its last state as a leader, for a pod that still exports it.
    stale: Option<LeaderView>,
    /// What arrived while it is suspended; none while it runs.
    pub(crate) inbox: Option<Vec<Input>>,
    /// How long it will be suspended between its next grant and the write.
    pub(crate) stop_at_grant: Option<True>,
    pub(crate) gone: bool,
    /// It cannot reach the API server.
    pub(crate) cut: bool,
    /// The API server has this watch open.
    pub(crate) watched: Option<u64>,
    /// When its timer fires.
    pub(crate) alarm: Option<True>,
    /// Its term and the end of its right, as they were checked last.
    pub(crate) checked: Option<(u64, Moment)>,
    /// Whether it has ever led.
    pub(crate) has_led: bool,
}

impl Pod {
    pub(crate) fn new(number: usize, clock: Clock, settings: Settings, broken: Broken) -> Self {
        let mut config = Config::new(
            format!("pod-{number}_0"),
            settings.duration,
            settings.spacing,
        );
        config.duration = assumed(&settings, broken);
        if broken == Broken::NoMargin {
            config.margin = Duration::ZERO;
        }
        let queue = QueueConfig {
            spacing: settings.spacing,
            start_guard: true,
            reservation_ttl: Duration::from_secs(60),
            shard_limit: match broken {
                Broken::NoBreaker => ShardLimit::NONE,
                _ => settings.shard_limit,
            },
            max_concurrency: settings.buckets,
            rules: Rules {
                interval: INTERVAL,
                reserve: settings.reserve,
                refresh: settings.refresh,
            },
        };
        let token = match BotToken::parse("simulated") {
            Ok(token) if settings.token => Current::Token(token),
            _ => Current::None,
        };
        let name = format!("pod-{number}");
        let address = ([10, 0, 0, 1], 9000 + number as u16).into();
        Self {
            number,
            clock,
            settings,
            broken,
            candidate: Candidate::new(config, address, PublishedState::new(&name)),
            queue: TermQueue::new(queue, LeadershipState::UNKNOWN, token, Moment::ZERO),
            candidate_state: LeadershipState::UNKNOWN,
            state: LeadershipState::UNKNOWN,
            granted: BTreeMap::new(),
            request: None,
            watch: None,
            fetch: None,
            settle: None,
            ids: 0,
            read: None,
            acquired: None,
            stale: None,
            inbox: None,
            stop_at_grant: None,
            gone: false,
            cut: false,
            watched: None,
            alarm: None,
            checked: None,
            has_led: false,
        }
    }

    /// Returns its term, and until when it may grant.
    pub(crate) fn right(&self) -> Option<(u64, Moment)> {
        let term = self.state.term.as_ref()?;
        Some((term.number, term.until))
    }

    pub(crate) fn may_grant(&self, now: Moment) -> bool {
        !self.gone && self.right().is_some_and(|(_, until)| now < until)
    }

    /// Whether it leads and may not grant for lack of a session start.
    pub(crate) fn holds(&self) -> bool {
        self.queue.blocked_by().is_some()
    }

    /// Whether it holds a shard that was granted too often.
    pub(crate) fn holds_a_shard(&self) -> bool {
        (0..SHARDS).any(|shard| self.queue.released_at(shard).is_some())
    }

    /// Whether it has granted nothing in its last term.
    pub(crate) fn has_only_inherited(&self) -> bool {
        self.granted.is_empty()
    }

    /// Returns what it exports.
    pub(crate) fn snapshot(&mut self, now: Moment) -> Snapshot {
        let mut snapshot = self.queue.snapshot(Detail::Numbers, 0, now);
        if self.broken == Broken::StaleExports {
            match &snapshot.leader_view {
                Some(view) => self.stale = Some(view.clone()),
                None => snapshot.leader_view.clone_from(&self.stale),
            }
        }
        snapshot
    }

    /// Handles an input, and does everything that is due.
    pub(crate) fn take(
        &mut self,
        input: Input,
        now: Moment,
        wall: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        match input {
            Input::Answer(id, answer) if self.request == Some(id) => self.answered(answer, now),
            Input::TimedOut(id) if self.request == Some(id) => {
                self.answered(Err(Failure::Other("no answer".to_owned())), now);
            }
            Input::Watched(id, sent) if self.watch == Some(id) => self.watched(&sent, now),
            Input::WatchEnded(id) if self.watch == Some(id) => self.watch_ended(now),
            Input::Fetched(id, outcome) if self.fetch == Some(id) => {
                self.fetch = None;
                self.queue.fetched(outcome, now, wall, 0.5);
            }
            Input::Client(shard) => self.offer(shard, now),
            Input::Report(shard, report) => self.queue.report(shard, report, now),
            Input::Write(held) => self.write(&held, now, out),
            Input::Terminate => self.candidate.resign(now),
            // Of something that has ended.
            Input::Wake
            | Input::Answer(..)
            | Input::TimedOut(_)
            | Input::Watched(..)
            | Input::WatchEnded(_)
            | Input::Fetched(..) => {}
        }
        self.act(now, wall, out);
    }

    fn act(&mut self, now: Moment, wall: Timestamp, out: &mut Vec<Effect>) {
        self.follow(now, out);
        self.settle(now);
        let candidate_at = self.step(now, wall, out);
        self.follow(now, out);
        if self.candidate.has_left() {
            return out.push(Effect::Gone);
        }
        if let Some(length) = self.grant(now, out) {
            return out.push(Effect::Suspended(length));
        }
        if self.queue.fetch_due(now).is_some() {
            let id = self.next_id();
            self.fetch = Some(id);
            out.push(Effect::Fetch(id));
        }
        let settle_at = self.settle.as_ref().map(|(_, _, until)| *until);
        let times = [candidate_at, settle_at, self.queue.wake_at(now)];
        out.extend(times.into_iter().flatten().min().map(Effect::WakeAt));
    }

    /// Does what the candidate task does now, and returns when it must act again.
    fn step(&mut self, now: Moment, wall: Timestamp, out: &mut Vec<Effect>) -> Option<Moment> {
        while self.request.is_none() && self.settle.is_none() {
            self.candidate
                .publish(&self.queue.published_state(&format!("pod-{}", self.number)));
            let action = self.candidate.step(now, wall);
            self.follow(now, out);
            match action {
                Action::Read => self.send(Request::Read, out),
                Action::Patch(patch) => self.send(Request::Patch(patch), out),
                Action::Settle { lease, term } => {
                    self.settle = Some((lease, term, now + SETTLE));
                    self.settle(now);
                }
                Action::Watch(version) => {
                    let id = self.next_id();
                    self.watch = Some(id);
                    out.push(Effect::Watch(id, version));
                }
                Action::Unwatch => self.watch = None,
                Action::Wait(until) => return until,
            }
        }
        None
    }

    /// Passes the leadership state of the candidate to the queue.
    fn follow(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.candidate.events();
        if *self.candidate.state() == self.candidate_state {
            return;
        }
        self.candidate_state.clone_from(self.candidate.state());
        let mut state = self.candidate_state.clone();
        let lost = self.settings.duration - assumed(&self.settings, self.broken);
        if let Some(term) = &mut state.term {
            term.until = term.until + lost;
        }
        if self.broken == Broken::PublishedBudgetTrusted && state.known.is_some() {
            let acquired = self.acquired.as_ref();
            state.known = acquired.and_then(|lease| LastKnown::read(&lease.annotations));
        }
        self.state = state.clone();
        let adopts = state.known.is_some();
        if !self.queue.set_leadership(state, now) {
            return;
        }
        self.fetch = None;
        let Some(term) = &self.state.term else {
            return;
        };
        self.has_led = true;
        self.granted.clear();
        out.push(Effect::Leads {
            released: term.handover.uncounted.is_some(),
        });
        out.extend(adopts.then_some(Effect::Adopted));
        for shard in 0..SHARDS {
            self.offer(shard, now);
        }
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn offer(&mut self, shard: u32, now: Moment) {
        let waiter = WaiterId(self.next_id());
        self.queue.offer(waiter, shard, now, now);
    }

    fn answered(&mut self, answer: Answer, now: Moment) {
        self.request = None;
        let record = answer.and_then(|sent| {
            let record = sent.answer.clone();
            record.ok_or_else(|| Failure::Other("the answer is no Lease".to_owned()))
        });
        if let Ok(record) = &record {
            self.read = Some(record.clone());
        }
        self.candidate.answered(record, now);
    }

    fn watched(&mut self, sent: &Sent, now: Moment) {
        match sent.event.clone() {
            Some(record) => {
                self.read = Some(record.clone());
                self.candidate.noticed(record, now);
            }
            None => self.watch_ended(now),
        }
    }

    fn watch_ended(&mut self, now: Moment) {
        self.watch = None;
        self.candidate.watch_ended(now);
    }

    fn send(&mut self, request: Request, out: &mut Vec<Effect>) {
        let id = self.next_id();
        self.request = Some(id);
        if request.kind() == Some(Kind::Acquire) {
            self.acquired.clone_from(&self.read);
            if self.broken == Broken::DatesOverflow {
                let renewed = self.read.as_ref().and_then(|read| read.renewed);
                let _ = renewed.map(|at| at + SignedDuration::from_mins(5));
            }
            if self.broken == Broken::NeverAcquires {
                return;
            }
        }
        out.push(Effect::Send(id, request));
    }

    /// Hands over the term once no grant is being written.
    fn settle(&mut self, now: Moment) {
        let Some((lease, term, until)) = &self.settle else {
            return;
        };
        let left = self.queue.handover(lease, term, now);
        if left.is_some() || *until <= now {
            self.settle = None;
            let left = left.map(|left| self.break_handover(left, now));
            self.candidate.settled(left, now);
        }
    }

    fn break_handover(&self, mut left: Handover, now: Moment) -> Handover {
        if self.broken == Broken::InheritedGuardsDropped {
            for (bucket, wait) in (0..).zip(&mut left.waits) {
                let granted = self.granted.get(&bucket);
                let free_at = granted.map(|at| *at + self.settings.spacing);
                *wait = free_at.map_or(Duration::ZERO, |at| at.since(now));
            }
        }
        if self.broken == Broken::UncountedForgotten {
            left.uncounted = Some(0);
        }
        left
    }

    /// Makes all grants that are due. Returns how long it is suspended before a write.
    fn grant(&mut self, now: Moment, out: &mut Vec<Effect>) -> Option<True> {
        while let Some((grant, until)) = self.queue.grant(now) {
            let held = Held {
                term: self.right().map_or(0, |(term, _)| term),
                grant,
                until,
                buckets: self
                    .queue
                    .published_state("")
                    .entry
                    .max_concurrency
                    .unwrap_or(1),
            };
            if let Some(length) = self.stop_at_grant.take() {
                self.inbox.get_or_insert_default().push(Input::Write(held));
                return Some(length);
            }
            self.write(&held, now, out);
        }
        None
    }

    /// Writes a grant unless its right has expired at this instant.
    fn write(&mut self, held: &Held, now: Moment, out: &mut Vec<Effect>) {
        let grant = held.grant;
        if now >= held.until && self.broken != Broken::NoFence {
            self.queue.unwritten(grant.waiter, now);
            self.offer(grant.shard, now);
            return out.push(Effect::TooLate);
        }
        self.queue.written(&grant, now);
        self.granted.insert(grant.bucket, now);
        let written = Written {
            // The world knows the true time.
            at: Moment::ZERO,
            term: (self.number as u64) << 32 | held.term,
            shown: now,
            bucket: grant.bucket,
            layout: held.buckets,
            spacing: self.settings.spacing,
        };
        out.push(Effect::Written(grant.shard, written));
    }
}

/// How long the others assume that a leader leads.
fn assumed(settings: &Settings, broken: Broken) -> Duration {
    match broken {
        Broken::HalfTheWait => settings.duration / 2,
        _ => settings.duration,
    }
}
