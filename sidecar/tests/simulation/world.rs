//! All pods, the API server, Discord and the network between them, and the events to come. The
//! same seed has the same story, to the nanosecond.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fastrand::Rng;
use gateway_queue_core::protocol::request::Report;
use gateway_queue_core::testing::judge::{Spacing, Written};
use gateway_queue_core::time::Moment;
use serde_json::Value;

use crate::api::{Kind, Request, Server};
use crate::clock::{MILLI, SECOND, True};
use crate::discord::{Discord, Health};
use crate::pod::{Pod, SHARDS};
use crate::rules::{Rule, Violation};
use crate::signals::{Effect, Input};
use crate::story::{self, Broken, Fault, First, How, Network, Settings, Story};

/// How long a pod waits for an answer, by its own clock.
const TIME_OUT: Duration = Duration::from_secs(5);

/// How long the simulation continues after the first grant in the calm.
const AFTERWARDS: True = 12 * SECOND;

/// Something that happens at an instant.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An input arrives at a pod.
    Input(usize, Input),
    /// The timer of a pod fires that was set for this instant.
    Alarm(usize, True),
    /// A request of a pod arrives at the API server.
    Request(usize, u64, Request),
    /// A pod begins to watch the Lease from this version on.
    Watch(usize, u64, String),
    /// A request of a pod arrives at Discord.
    Fetch(usize, u64),
    Fault(Fault),
    /// A suspended process resumes.
    Resume(usize),
    Start,
    /// A rollout replaces this pod.
    Replace(usize),
    /// The grace of a pod is over.
    Kill(usize),
    Cut(usize),
    Reconnect(usize),
    NotifyAll,
    ServerUp,
    MakeLease(Option<Value>),
    DiscordUp,
    Calm,
    /// A pod must have granted by now, unless it is excused: it has no session starts.
    Deadline {
        excused: bool,
    },
    End,
}

/// Something rare, counted to know that it happens at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rare {
    Grant,
    LeadsAfterRelease,
    LeadsAfterExpiry,
    WrittenTooLate,
    Conflict,
    AppliedAfterTimeout,
    ReleasedBeforeAnyGrant,
    WithoutSessionStarts,
    GrantWhileAnotherIsHeld,
    LeaseRecreated,
    BudgetAdopted,
    Garbage,
    BrokenAnswer,
    ReturnedAfterAnotherLed,
}

impl Rare {
    pub(crate) const COUNT: usize = Self::ReturnedAfterAnotherLed as usize + 1;
}

/// How often each rare thing happened.
pub(crate) type Seen = BTreeMap<Rare, u64>;

/// The outcome of a seed.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) violation: Option<Violation>,
    pub(crate) seen: Seen,
    /// What happened, if a trace was asked for.
    pub(crate) trace: Vec<String>,
}

pub(crate) struct World {
    pub(crate) now: True,
    pub(crate) dice: Rng,
    pub(crate) broken: Broken,
    pub(crate) settings: Settings,
    pub(crate) network: Network,
    pub(crate) pods: Vec<Pod>,
    pub(crate) server: Server,
    pub(crate) discord: Discord,
    /// The longest time that it takes to answer.
    pub(crate) discord_takes: True,
    pub(crate) events: BTreeMap<(True, u64), Event>,
    pub(crate) calm_since: Option<True>,
    /// How many future leaders end, how soon, and how.
    pub(crate) doomed: (u8, True, How),
    pub(crate) seen: Seen,
    pub(crate) granted_at: Option<True>,
    /// The pod that acquired the Lease last.
    pub(crate) last_to_acquire: Option<usize>,
    order: u64,
    spacing: Spacing,
    /// The term, the shard and the time of each grant, by the clock of its leader.
    pub(crate) by_shard: Vec<(u64, u32, Moment)>,
    pub(crate) violation: Option<Violation>,
    effects: Vec<Effect>,
    trace: Option<Vec<String>>,
}

/// Plays the story of this seed to its end or to the first violation.
pub(crate) fn play(seed: u64, broken: Broken, trace: bool) -> End {
    let mut dice = Rng::with_seed(seed);
    let story = Story::draw(&mut dice);
    let mut world = World {
        now: 0,
        broken,
        settings: story.settings,
        network: story.network,
        pods: Vec::new(),
        server: Server::new(broken),
        discord: Discord::new(&mut dice),
        discord_takes: story.discord,
        dice,
        events: BTreeMap::new(),
        calm_since: None,
        doomed: (0, 0, How::Terminated),
        seen: Seen::default(),
        granted_at: None,
        last_to_acquire: None,
        order: 0,
        spacing: Spacing::default(),
        by_shard: Vec::new(),
        violation: None,
        effects: Vec::new(),
        trace: trace.then(Vec::new),
    };
    world.note(|| format!("{story:#?}"));
    world.begin(&story);
    while world.violation.is_none()
        && let Some(((at, _), event)) = world.events.pop_first()
    {
        world.now = at;
        if matches!(event, Event::End) {
            break;
        }
        // After a panic only the violation and the trace are read.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.happen(event))) {
            world.violate(Rule::Panic, message(&*panic));
        }
    }
    End {
        violation: world.violation,
        seen: world.seen,
        trace: world.trace.unwrap_or_default(),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_default()
}

impl World {
    fn begin(&mut self, story: &Story) {
        match story.first {
            First::New => self.server.create_first(),
            First::Blank => self.server.create(None),
            First::Missing => self.after(story.calm_at / 2, Event::MakeLease(None)),
        }
        for _ in 0..story.pods {
            let at = self.dice.u64(0..3 * SECOND);
            self.after(at, Event::Start);
        }
        for (at, fault) in &story.faults {
            self.after(*at, Event::Fault(*fault));
        }
        self.after(story.calm_at, Event::Calm);
    }

    pub(crate) fn saw(&mut self, rare: Rare) {
        *self.seen.entry(rare).or_default() += 1;
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.now as f64 / SECOND as f64;
            trace.push(format!("{at:9.4} {}", what()));
        }
    }

    pub(crate) fn after(&mut self, delay: True, event: Event) {
        self.order += 1;
        self.events.insert((self.now + delay, self.order), event);
    }

    /// Sends an event once, twice or never. So many of a thousand are late.
    pub(crate) fn send(&mut self, event: Event, late: u16) {
        let Network { lost, repeated, .. } = self.network;
        let copies = 1 + u8::from(self.dice.u16(0..1000) < repeated);
        for _ in 0..copies {
            let dice = self.dice.u16(0..1000);
            let delay = match dice {
                _ if dice < lost => continue,
                _ if dice < lost + late => {
                    let max = if self.dice.bool() { 40 } else { 7 };
                    self.dice.u64(0..max * SECOND)
                }
                _ => self.dice.u64(MILLI / 2..20 * MILLI),
            };
            self.after(delay, event.clone());
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(pod, input) => self.deliver(pod, input),
            Event::Alarm(pod, at) => {
                if self.pods[pod].alarm.take_if(|alarm| *alarm == at).is_some() {
                    self.deliver(pod, Input::Wake);
                }
            }
            Event::Request(pod, id, request) => self.serve(pod, id, request),
            Event::Watch(pod, id, version) => self.watch(pod, id, &version),
            Event::Fetch(pod, id) => self.answer_fetch(pod, id),
            Event::Fault(fault) => self.strike(fault),
            Event::Resume(pod) => self.resume(pod),
            Event::Start => self.start(),
            Event::Replace(pod) if !self.pods[pod].gone => {
                self.start();
                self.terminate(pod, 0);
            }
            Event::Replace(_) => {}
            Event::Kill(pod) => self.pods[pod].gone = true,
            Event::Cut(pod) => self.cut(pod, 40 * SECOND),
            Event::Reconnect(pod) => self.reconnect(pod),
            Event::NotifyAll => self.notify_all(),
            Event::ServerUp => self.server.up = true,
            Event::DiscordUp => self.discord.health = Health::Healthy,
            Event::MakeLease(like) => self.make_lease(like),
            Event::Calm => self.calm(),
            Event::Deadline { excused } => self.demand_a_grant(excused),
            Event::End => {}
        }
    }

    pub(crate) fn start(&mut self) {
        let number = self.pods.len();
        let clock = story::clock(self.broken, &mut self.dice);
        let pod = Pod::new(number, clock, self.settings, self.broken);
        self.note(|| format!("pod {number} starts: {clock:?}"));
        self.pods.push(pod);
        self.deliver(number, Input::Wake);
    }

    pub(crate) fn deliver(&mut self, pod: usize, input: Input) {
        if self.pods[pod].gone {
            return;
        }
        match &mut self.pods[pod].inbox {
            Some(inbox) => inbox.push(input),
            None => self.run(pod, input),
        }
    }

    /// Resumes a pod. It finds what arrived meanwhile in any order.
    fn resume(&mut self, pod: usize) {
        let Some(mut inbox) = self.pods[pod].inbox.take() else {
            return;
        };
        self.note(|| format!("pod {pod} resumes"));
        self.dice.shuffle(&mut inbox);
        inbox.push(Input::Wake);
        for input in inbox {
            self.deliver(pod, input);
        }
    }

    fn run(&mut self, pod: usize, input: Input) {
        if !matches!(input, Input::Wake | Input::Client(_) | Input::TimedOut(_)) {
            self.note(|| format!("pod {pod} <- {input:?}"));
        }
        let mut effects = std::mem::take(&mut self.effects);
        let clock = self.pods[pod].clock;
        let (now, wall) = (clock.at(self.now), clock.wall(self.now));
        self.pods[pod].take(input, now, wall, &mut effects);
        for effect in effects.drain(..) {
            if !matches!(effect, Effect::WakeAt(_)) {
                self.note(|| format!("pod {pod} -> {effect:?}"));
            }
            self.effect(pod, effect);
        }
        self.effects = effects;
        self.check_right(pod);
    }

    /// The client of a shard that was granted reports what happened to it, and another client
    /// something else.
    fn report_something(&mut self, pod: usize, granted: u32) {
        for shard in [granted, self.dice.u32(0..SHARDS)] {
            let report = Report::ALL[self.dice.usize(..Report::ALL.len())];
            let delay = self.dice.u64(0..4 * SECOND);
            self.after(delay, Event::Input(pod, Input::Report(shard, report)));
        }
    }

    fn effect(&mut self, pod: usize, effect: Effect) {
        match effect {
            Effect::Send(id, request) => {
                let clock = self.pods[pod].clock;
                let until = clock.when(clock.at(self.now) + TIME_OUT);
                let timed_out = Event::Input(pod, Input::TimedOut(id));
                self.after(until - self.now, timed_out);
                if request.kind() == Some(Kind::Release) && self.pods[pod].has_only_inherited() {
                    self.saw(Rare::ReleasedBeforeAnyGrant);
                }
                self.send(Event::Request(pod, id, request), self.network.late);
            }
            Effect::Watch(id, version) => {
                let delay = self.dice.u64(MILLI / 2..20 * MILLI);
                self.after(delay, Event::Watch(pod, id, version));
            }
            Effect::Fetch(id) => {
                let delay = self.dice.u64(MILLI..100 * MILLI);
                self.after(delay, Event::Fetch(pod, id));
            }
            Effect::Written(shard, written) => {
                self.saw(Rare::Grant);
                if self.calm_since.is_some() && self.granted_at.is_none() {
                    self.granted_at = Some(self.now);
                    self.after(AFTERWARDS, Event::End);
                }
                let written = Written {
                    at: Moment::from_nanos(self.now),
                    ..written
                };
                if let Some(earlier) = self.spacing.written(written) {
                    self.violate(Rule::Spacing, format!("{written:?} after {earlier:?}"));
                }
                self.demand_one_leader(pod);
                self.demand_few_grants(pod, shard, &written);
                self.report_something(pod, shard);
                if self.pods[pod].settings.token {
                    let left = self.discord.identify(self.now, &mut self.dice);
                    if left < self.pods[pod].settings.reserve as i64 {
                        self.violate(Rule::Budget, format!("{left} left by Discord's count"));
                    }
                }
                let away = if self.calm_since.is_none() && self.dice.u8(0..4) == 0 {
                    self.dice.u64(0..12 * SECOND)
                } else {
                    0
                };
                self.after(away, Event::Input(pod, Input::Client(shard)));
            }
            Effect::TooLate => self.saw(Rare::WrittenTooLate),
            Effect::Suspended(length) => self.after(length, Event::Resume(pod)),
            Effect::Leads { released } => {
                self.saw(if released {
                    Rare::LeadsAfterRelease
                } else {
                    Rare::LeadsAfterExpiry
                });
                if self.doomed.0 > 0 {
                    self.doomed.0 -= 1;
                    let delay = self.dice.u64(0..=self.doomed.1);
                    match self.doomed.2 {
                        How::Cut if self.dice.bool() => {
                            self.after(delay, Event::Cut(pod));
                        }
                        _ => {
                            self.start();
                            self.terminate(pod, delay);
                        }
                    }
                }
            }
            Effect::Adopted => self.saw(Rare::BudgetAdopted),
            Effect::WakeAt(at) => {
                let at = self.pods[pod].clock.when(at).max(self.now);
                if self.pods[pod].alarm != Some(at) {
                    self.pods[pod].alarm = Some(at);
                    self.after(at - self.now, Event::Alarm(pod, at));
                }
            }
            Effect::Gone => self.pods[pod].gone = true,
        }
    }
}
