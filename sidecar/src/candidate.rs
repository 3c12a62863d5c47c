//! Takes part in the election: reads, writes and watches the Lease as the
//! election says, and tells the others what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::{self, Alarm};
use crate::election::{Answer, Config, Election, Kind, LONGEST, Step, Write};
use crate::handle::Handle;
use crate::lease::{Failure, Lease, Watch};
use crate::logbook::{LastKnown, Page};
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::record::{self, Record};
use crate::standing::{Leader, Standing};

/// News are written no sooner than this after the last write.
const NEWS_PAUSE: Duration = Duration::from_secs(2);

/// A watch that failed is begun again after this time.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

/// What a leader wrote longer ago, by its own wall clock, is not started from.
const YOUNG: SignedDuration = SignedDuration::from_mins(5);

/// How long the keeper may take to bring its grants to an end.
const SETTLE: Duration = Duration::from_secs(2);

/// What a candidate works with.
pub struct Candidate {
    lease: Lease,
    config: Config,
    /// Where this process takes hops.
    address: String,
    election: Election,
    alarm: Alarm,
    last: Option<Record>,
    /// The Lease that it took, as the last leader had left it not long ago.
    inherited: Option<Record>,
    watch: Option<Watch>,
    /// Not before this.
    watch_at: Moment,
    /// Leads no more when it is cancelled.
    resign: CancellationToken,
    /// Cancelled when there is nothing to release any more.
    left: CancellationToken,
    keeper: Handle,
    pages: watch::Receiver<Page>,
    written: Option<Page>,
    written_at: Moment,
    standing: Arc<watch::Sender<Standing>>,
    ready: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// What failed last and has not succeeded since, so that it is said once.
    failing: Option<&'static str>,
    /// Whether the right to grant has run out, likewise.
    lapsed: bool,
}

/// The way to the world, for [`Candidate::new`].
#[derive(Debug)]
#[allow(missing_docs)] // As in `Candidate`.
pub struct Ways {
    pub lease: Lease,
    pub address: String,
    pub keeper: Handle,
    pub pages: watch::Receiver<Page>,
    pub standing: Arc<watch::Sender<Standing>>,
    pub ready: Arc<AtomicBool>,
    pub metrics: Arc<Metrics>,
    pub resign: CancellationToken,
    pub left: CancellationToken,
}

impl Candidate {
    /// One who has not seen the Lease yet.
    ///
    /// # Errors
    ///
    /// When the kernel has no timer.
    pub fn new(config: Config, ways: Ways) -> std::io::Result<Self> {
        Ok(Self {
            election: Election::new(config.clone()),
            config,
            lease: ways.lease,
            address: ways.address,
            alarm: Alarm::new()?,
            last: None,
            inherited: None,
            watch: None,
            watch_at: Moment::ZERO,
            resign: ways.resign,
            left: ways.left,
            keeper: ways.keeper,
            pages: ways.pages,
            written: None,
            written_at: Moment::ZERO,
            standing: ways.standing,
            ready: ways.ready,
            metrics: ways.metrics,
            failing: None,
            lapsed: false,
        })
    }

    /// Runs for ever.
    ///
    /// # Errors
    ///
    /// When the kernel's timer fails.
    pub async fn run(mut self) -> std::io::Result<()> {
        loop {
            self.tell();
            let now = clock::now();
            if self.has_news() {
                self.election.renew_by(self.written_at + NEWS_PAUSE);
            }
            match self.election.step(now) {
                Step::Read => {
                    let lease = self.lease.clone();
                    let answer = self.ask(lease.read()).await;
                    self.answered(answer, None);
                }
                Step::Write(write) => self.write(write).await,
                Step::Wait(until) => self.wait(until, now).await?,
            }
        }
    }

    /// Waits for a request, and resigns at once if it has to meanwhile.
    async fn ask(
        &mut self,
        request: impl Future<Output = Result<Record, Failure>>,
    ) -> Result<Record, Failure> {
        tokio::pin!(request);
        if !self.election.has_resigned() {
            tokio::select! {
                answer = &mut request => return answer,
                () = self.resign.cancelled() => self.resign(),
            }
        }
        request.await
    }

    fn resign(&mut self) {
        self.election.resign();
        self.tell();
    }

    async fn write(&mut self, write: Write) {
        let wall = Timestamp::now();
        let mut page = None;
        let patch = match (&write.kind, &self.last) {
            (Kind::Take(holder), Some(last)) => {
                let renewed = last.renewed.map_or(Timestamp::MIN, |at| at + YOUNG);
                self.inherited = (renewed > wall).then(|| last.clone());
                last.take(&write, holder, &self.address, self.config.duration, wall)
            }
            (Kind::Renew, _) => {
                let new = self.pages.borrow_and_update().clone();
                let annotations = new.annotations();
                let duration = self.config.duration;
                let patch = record::renew(&write, &annotations, &self.address, duration, wall);
                page = Some(new);
                patch
            }
            (Kind::Release, _) => {
                // Once no grant is on its way, what is left can be told.
                let left = match self.election.releasing() {
                    Some(term) => {
                        let left = self.keeper.left(&write.uid, term.clone());
                        timeout(SETTLE, left).await.ok().flatten()
                    }
                    None => None,
                };
                match left {
                    Some(left) => record::release(&write, left, Timestamp::now()),
                    None => {
                        let why = "a grant is still being written";
                        let answer = Err(Failure::Other(why.to_owned()));
                        return self.answered(answer, Some(&write.kind));
                    }
                }
            }
            (Kind::Take(_), None) => {
                // It cannot want to take what it has never read.
                return self.answered(Err(Failure::Missing), Some(&write.kind));
            }
        };
        let lease = self.lease.clone();
        let answer = self.ask(lease.patch(&patch)).await;
        if answer.is_ok() {
            self.written_at = clock::now();
            self.written = page;
        }
        self.answered(answer, Some(&write.kind));
    }

    fn answered(&mut self, answer: Result<Record, Failure>, kind: Option<&Kind>) {
        let doing = match kind {
            None => "read",
            Some(Kind::Take(_)) => "take",
            Some(Kind::Renew) => "renew",
            Some(Kind::Release) => "release",
        };
        self.metrics.asked_lease(doing, answer.is_ok());
        let (answer, failure) = match answer {
            Ok(record) => {
                let lease = record.lease.clone();
                self.last = Some(record);
                if !self.ready.swap(true, Ordering::Relaxed) {
                    info!("the Lease was read");
                }
                (Answer::Lease(lease), None)
            }
            Err(Failure::Conflict) => (Answer::Conflict, None),
            Err(failure @ Failure::Missing) => (Answer::Missing, Some(failure)),
            Err(failure @ Failure::Other(_)) => (Answer::Failed, Some(failure)),
        };
        match (failure, self.failing) {
            (Some(error), None) => {
                warn!(%error, doing, "cannot reach the Lease");
                self.failing = Some(doing);
            }
            (None, Some(failing))
                if failing == doing
                    // Who leads no more has nothing to renew.
                    || (failing == "renew" && self.election.term().is_none()) =>
            {
                info!(doing, "the Lease can be reached again");
                self.failing = None;
            }
            _ => {}
        }
        self.election.answered(answer, clock::now());
    }

    async fn wait(&mut self, until: Option<Moment>, now: Moment) -> std::io::Result<()> {
        let leads = self.election.term().is_some();
        if leads {
            self.watch = None;
        } else if self.watch.is_none() && self.watch_at <= now {
            let version = self.election.lease().map(|lease| &lease.version);
            self.watch = version.map(|version| self.lease.watch(version));
        }
        let unseen = self.watch.is_none() && self.election.lease().is_some();
        let watch_at = (!leads && unseen).then_some(self.watch_at);
        let until = until.into_iter().chain(watch_at).min();
        self.alarm.set(until)?;
        let changed = async {
            match &mut self.watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            rang = self.alarm.ring() => rang?,
            change = changed => match change {
                Some(record) => {
                    let lease = record.lease.clone();
                    self.last = Some(record);
                    self.election.noticed(lease, clock::now());
                }
                None => {
                    self.watch = None;
                    self.watch_at = clock::now() + WATCH_PAUSE;
                    self.election.doubt();
                }
            },
            Ok(()) = self.pages.changed(), if leads => {}
            () = self.resign.cancelled(), if !self.election.has_resigned() => self.resign(),
        }
        Ok(())
    }

    /// Whether there is something that people look out for.
    fn has_news(&self) -> bool {
        if self.election.term().is_none() {
            return false;
        }
        let page = self.pages.borrow();
        match &self.written {
            Some(written) => page.entry.is_news_after(&written.entry),
            None => true,
        }
    }

    fn why_no_more(&self) -> &'static str {
        if self.election.has_resigned() {
            "it is to end"
        } else if self.election.leader().is_some() {
            "another pod has taken the Lease"
        } else {
            "the Lease was deleted, or somebody else has changed it"
        }
    }

    /// Whether `holder` is a process that ran in this pod.
    fn is_former_self(&self, holder: &str) -> bool {
        let pod = |identity: &str| Some(identity.rsplit_once('_')?.0.to_owned());
        pod(holder) == pod(&self.config.identity)
    }

    /// Says what changed.
    fn tell(&mut self) {
        let now = clock::now();
        if self.election.has_left() {
            self.left.cancel();
        }
        let lapsed = self.election.term().is_some_and(|term| term.until <= now);
        match (self.lapsed, lapsed) {
            (false, true) => warn!("nothing is granted until the Lease can be renewed"),
            (true, false) => info!("the Lease was renewed, or another pod has it"),
            _ => {}
        }
        self.lapsed = lapsed;
        let leader = self.election.leader();
        let mut standing = Standing {
            term: self.election.term().cloned(),
            known: None,
            leader: leader.and_then(|(holder, address)| {
                Some(Leader {
                    holder: holder.to_owned(),
                    address: address.parse().ok()?,
                })
            }),
        };
        self.standing.send_if_modified(|before| {
            let number = |standing: &Standing| standing.term.as_ref().map(|term| term.number);
            if number(before) == number(&standing) {
                standing.known = before.known.take();
            } else if standing.term.is_some() {
                let holder = standing.term.as_ref().map(|term| &term.holder);
                info!(holder, "this pod leads");
                // What is there now the last leader has written.
                standing.known = self.inherited.as_ref().and_then(|last| {
                    let known = LastKnown::read(&last.annotations)?;
                    Some(known.less_unseen(LONGEST, self.config.spacing))
                });
            } else {
                info!(why = self.why_no_more(), "this pod leads no more");
            }
            if before.leader != standing.leader
                && let Some(Leader { holder, address }) = &standing.leader
            {
                match self.is_former_self(holder) {
                    true => info!(
                        holder,
                        "this pod led before it was restarted: its term has to end"
                    ),
                    false => info!(holder, leader = %address, "another pod leads"),
                }
            }
            let modified = before.term != standing.term || before.leader != standing.leader;
            *before = standing;
            modified
        });
    }
}
