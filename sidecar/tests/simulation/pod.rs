//! A pod: the real election and the real queue, and the thin layer around them
//! that the real pod has, too. It knows only its own clock.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_queue::budget::{Outcome, Rules};
use gateway_queue::election::{Answer, Config, Election, Kind, LONGEST, Step, Write};
use gateway_queue::limits::Limits;
use gateway_queue::logbook::LastKnown;
use gateway_queue::moment::Moment;
use gateway_queue::pacer::WaiterId;
use gateway_queue::queue::{Config as QueueConfig, Learned, Queue};
use gateway_queue::term::Inheritance;
use gateway_queue_logbook::{Left, Token};

use crate::api::{Patch, Request};
use crate::clock::{Clock, True};
use crate::judge::Written;
use crate::signals::{Effect, Held, Input};
use crate::story::{Broken, Settings};

pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Two for each of the most buckets of a story, and they always come back.
const SHARDS: u32 = 8;

/// What a leader has.
#[derive(Debug)]
struct Lead {
    term: u64,
    queue: Queue,
    /// What was granted in this term, for a broken release record.
    granted: BTreeMap<u32, Moment>,
}

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) number: usize,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    broken: Broken,
    election: Election,
    lead: Option<Lead>,
    asked: Option<u64>,
    fetch: Option<u64>,
    /// For requests, fetches and waiters.
    ids: u64,
    resigned: bool,
    /// What came while it was stopped; none while it runs.
    pub(crate) inbox: Option<Vec<Input>>,
    /// It will be stopped for so long between its next grant and the write of it.
    pub(crate) stop_at_grant: Option<True>,
    pub(crate) gone: bool,
    /// Nothing goes between it and the API server.
    pub(crate) cut: bool,
    /// What the logbook said when it took the Lease.
    pub(crate) page: Option<Limits>,
    /// When its timer fires.
    pub(crate) alarm: Option<True>,
    /// Its term, and the end of its right, as they were checked last.
    pub(crate) checked: Option<(u64, Moment)>,
}

impl Pod {
    pub(crate) fn new(number: usize, clock: Clock, settings: Settings, broken: Broken) -> Self {
        Self {
            number,
            clock,
            settings,
            broken,
            election: Election::new(Config {
                identity: format!("pod-{number}"),
                duration: believed(&settings, broken),
                renew_every: settings.duration / 3,
                margin: match broken {
                    Broken::NoMargin => Duration::ZERO,
                    _ => settings.margin,
                },
                spacing: settings.spacing,
            }),
            lead: None,
            asked: None,
            fetch: None,
            ids: 0,
            resigned: false,
            inbox: None,
            stop_at_grant: None,
            gone: false,
            cut: false,
            page: None,
            alarm: None,
            checked: None,
        }
    }

    /// Its term, and until when it may grant. What it may in truth is another
    /// matter.
    pub(crate) fn right(&self) -> Option<(u64, Moment)> {
        let term = self.election.term()?;
        let unbelieved = self.settings.duration - believed(&self.settings, self.broken);
        Some((term.number, term.until + unbelieved))
    }

    pub(crate) fn may_grant(&self, now: Moment) -> bool {
        !self.gone && self.right().is_some_and(|(_, until)| now < until)
    }

    pub(crate) fn stop(&mut self) {
        self.inbox.get_or_insert_default();
    }

    /// The request to the API server that is not answered.
    pub(crate) fn asked(&self) -> Option<u64> {
        self.asked
    }

    /// Whether it leads, and has no session start to give.
    pub(crate) fn holds(&self) -> bool {
        let lead = self.lead.as_ref().filter(|_| self.right().is_some());
        lead.is_some_and(|lead| lead.queue.hold().is_some())
    }

    /// Whether it leads and has granted nothing yet.
    pub(crate) fn has_only_inherited(&self) -> bool {
        self.lead.as_ref().is_some_and(|l| l.granted.is_empty())
    }

    /// Takes what has come, and does what is to be done now.
    pub(crate) fn take(&mut self, input: Input, now: Moment, out: &mut Vec<Effect>) {
        match input {
            Input::Answer(id, answer) if self.asked == Some(id) => self.answered(answer, now),
            Input::TimedOut(id) if self.asked == Some(id) => self.answered(Answer::Failed, now),
            Input::Seen(lease) if self.election.term().is_none() => {
                self.election.noticed(lease, now);
            }
            Input::Doubt => self.election.doubt(),
            Input::Fetched(id, outcome) if self.fetch == Some(id) => self.fetched(outcome, now),
            Input::Client(shard) => self.offer(shard, now),
            Input::Write(held) => self.write(held, now, out),
            Input::Terminate => {
                self.resigned = true;
                self.election.resign();
            }
            Input::Wake
            | Input::Answer(..)
            | Input::TimedOut(_)
            | Input::Seen(_)
            | Input::Fetched(..) => {}
        }
        self.go_on(now, out);
    }

    fn go_on(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.follow_term(now, out);
        let mut wake_at = None;
        // What is released must not change any more.
        let writing = self.lead.as_ref().is_some_and(|l| l.queue.is_writing());
        if !(self.election.releasing().is_some() && writing) {
            wake_at = match self.election.step(now) {
                Step::Read => {
                    self.send(Request::Read, out);
                    None
                }
                Step::Write(write)
                    if matches!(write.kind, Kind::Take(_)) && self.broken == Broken::NeverTakes =>
                {
                    None
                }
                Step::Write(write) => {
                    let patch = self.patch(&write, now);
                    self.send(Request::Write(write, patch), out);
                    None
                }
                Step::Wait(until) => until,
            };
        }
        if self.resigned && self.election.releasing().is_none() && self.asked.is_none() {
            return out.push(Effect::Gone);
        }
        if let Some(length) = self.give_turns(now, out) {
            return out.push(Effect::Stopped(length));
        }
        self.fetch_if_due(now, out);
        let turn_at = self
            .lead
            .as_ref()
            .and_then(|lead| match self.may_grant(now) {
                true => lead.queue.wake_at(),
                false => lead.queue.fetch_at(),
            });
        let turn_at = turn_at.filter(|_| !self.resigned);
        out.extend(wake_at.into_iter().chain(turn_at).min().map(Effect::WakeAt));
    }

    /// Each term has a queue of its own; who resigned keeps it until it has
    /// written what it leaves.
    fn follow_term(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Some(term) = self.election.term() else {
            if self.election.releasing().is_none() {
                self.lead = None;
            }
            return;
        };
        if self.lead.as_ref().is_some_and(|l| l.term == term.number) {
            return;
        }
        let Settings { spacing, token, .. } = self.settings;
        let config = QueueConfig {
            spacing,
            start_guard: true,
            place_kept: Duration::from_secs(60),
            max_concurrency: self.settings.buckets,
            rules: Rules {
                interval: INTERVAL,
                reserve: self.settings.reserve,
                refresh: self.settings.refresh,
            },
        };
        let token = match token {
            true => Token::Unchecked,
            false => Token::None,
        };
        let mut queue = Queue::inheriting(&config, token, &term.inheritance, now);
        if let (Token::Unchecked, Some(limits)) = (token, self.page.take()) {
            let known = LastKnown {
                token_mark: String::new(),
                limits,
            };
            let less = match self.broken {
                Broken::PageBelieved => known,
                _ => known.less_unseen(LONGEST, spacing),
            };
            queue.adopt(less.limits, now);
            out.push(Effect::Adopted);
        }
        out.push(Effect::Leads {
            released: term.inheritance.uncounted.is_some(),
        });
        self.lead = Some(Lead {
            term: term.number,
            queue,
            granted: BTreeMap::new(),
        });
        self.fetch = None;
        for shard in 0..SHARDS {
            self.offer(shard, now);
        }
    }

    fn offer(&mut self, shard: u32, now: Moment) {
        self.ids += 1;
        if let Some(lead) = &mut self.lead {
            lead.queue.offer(WaiterId(self.ids), shard, now);
        }
    }

    fn answered(&mut self, answer: Answer, now: Moment) {
        self.asked = None;
        self.election.answered(answer, now);
    }

    fn send(&mut self, request: Request, out: &mut Vec<Effect>) {
        self.ids += 1;
        self.asked = Some(self.ids);
        out.push(Effect::Send(self.ids, request));
    }

    fn patch(&self, write: &Write, now: Moment) -> Patch {
        match &write.kind {
            Kind::Take(holder) => Patch::Take {
                holder: holder.clone(),
                duration: believed(&self.settings, self.broken),
            },
            Kind::Renew => Patch::Renew(self.known()),
            Kind::Release => Patch::Release(self.left(&write.uid, now)),
        }
    }

    /// For the logbook.
    fn known(&self) -> Option<Limits> {
        let queue = &self.lead.as_ref()?.queue;
        let budget = queue.budget();
        let limits = budget
            .limits()
            .filter(|_| budget.token() == Token::Accepted)?;
        Some(Limits {
            remaining: budget.remaining()?,
            max_concurrency: queue.concurrency(),
            ..limits
        })
    }

    fn left(&self, lease: &str, now: Moment) -> Left {
        let Some(lead) = &self.lead else {
            // It resigned before it knew that it led.
            let spacing = self.settings.spacing;
            return match self.election.releasing() {
                Some(term) => term.inheritance.left(lease, spacing, now),
                None => Inheritance::unknown(now).left(lease, spacing, now),
            };
        };
        let mut left = lead.queue.left(lease, now);
        if self.broken == Broken::InheritedGuardsDropped {
            for (bucket, wait) in (0..).zip(&mut left.waits) {
                let granted = lead.granted.get(&bucket);
                let free_at = granted.map(|at| *at + self.settings.spacing);
                *wait = free_at.map_or(Duration::ZERO, |at| at.since(now));
            }
        }
        if self.broken == Broken::UncountedForgotten {
            left.uncounted = Some(0);
        }
        left
    }

    /// For how long it was stopped meanwhile.
    fn give_turns(&mut self, now: Moment, out: &mut Vec<Effect>) -> Option<True> {
        while self.may_grant(now) {
            let Some(lead) = &mut self.lead else { break };
            let Some(grant) = lead.queue.grant(now) else {
                break;
            };
            let held = Held {
                term: lead.term,
                grant,
                buckets: lead.queue.concurrency().unwrap_or(1),
            };
            if let Some(length) = self.stop_at_grant.take() {
                self.inbox.get_or_insert_default().push(Input::Write(held));
                return Some(length);
            }
            self.write(held, now, out);
        }
        None
    }

    /// The fence is asked at the instant of the write.
    fn write(&mut self, held: Held, now: Moment, out: &mut Vec<Effect>) {
        let Held {
            term,
            grant,
            buckets,
        } = held;
        let in_time = |(number, until)| number == term && now < until;
        let fence = self.right().is_some_and(in_time) || self.broken == Broken::NoFence;
        let lead = self.lead.as_mut().filter(|lead| lead.term == term);
        if !fence {
            if let Some(lead) = lead {
                lead.queue.unwritten(grant.waiter, now);
            }
            self.offer(grant.shard, now);
            return out.push(Effect::Refused);
        }
        if let Some(lead) = lead {
            lead.queue.written(grant.waiter, now);
            lead.granted.insert(grant.bucket, now);
        }
        let written = Written {
            pod: self.number,
            term,
            bucket: grant.bucket,
            buckets,
            spacing: self.settings.spacing,
            shown: now,
        };
        out.push(Effect::Written(grant.shard, written));
    }

    fn fetch_if_due(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Some(lead) = self.lead.as_mut().filter(|_| !self.resigned) else {
            return;
        };
        if lead.queue.fetch_at().is_some_and(|at| at <= now) {
            lead.queue.fetching(now);
            self.ids += 1;
            self.fetch = Some(self.ids);
            out.push(Effect::Fetch(self.ids));
        }
    }

    fn fetched(&mut self, outcome: Outcome, now: Moment) {
        self.fetch = None;
        let Some(lead) = &mut self.lead else { return };
        if let Learned::Limits {
            concurrency_was: Some(_),
            ..
        } = lead.queue.fetched(outcome, now, 0.5)
        {
            self.election.renew_by(now);
        }
    }
}

/// How long the others believe that one leads.
fn believed(settings: &Settings, broken: Broken) -> Duration {
    match broken {
        Broken::HalfTheWait => settings.duration / 2,
        _ => settings.duration,
    }
}
