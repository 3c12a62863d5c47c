//! The faults, and their end.

use gateway_queue_core::leadership::lease_object::Failure;
use serde_json::{Value, json};

use crate::api::{Kind, Request};
use crate::clock::{MILLI, SECOND, True};
use crate::discord::Health;
use crate::foreign_writes;
use crate::signals::Input;
use crate::story::{Fault, How, Network, Remake, Target};
use crate::world::{Event, Rare, World};

/// How long a pod may take to terminate.
const GRACE: True = 30 * SECOND;

/// The longest time that anything takes in the calm.
const SOON: True = 20 * MILLI;

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        self.note(|| format!("*** {fault:?}"));
        match fault {
            Fault::Stop(target, length, at_grant) => {
                let Some(pod) = self.find(target) else { return };
                if at_grant {
                    self.pods[pod].stop_at_grant = Some(length);
                } else {
                    self.pods[pod].inbox.get_or_insert_default();
                    self.after(length, Event::Resume(pod));
                }
            }
            Fault::Crash(target, length) => {
                let Some(pod) = self.find(target) else { return };
                self.crash(pod, length);
            }
            Fault::Terminate(target) => {
                let Some(pod) = self.find(target) else { return };
                self.start();
                self.terminate(pod, 0);
            }
            Fault::EndInARow(how, how_many, within) => {
                let Some(pod) = self.find(Target::Leader) else {
                    return;
                };
                match how {
                    How::Killed => self.crash(pod, 0),
                    How::Cut => self.cut(pod, 40 * SECOND),
                    How::Terminated => {
                        self.start();
                        self.terminate(pod, 0);
                    }
                }
                self.doomed = (how_many - 1, within, how);
            }
            Fault::Rollout(settings, pause) => {
                self.settings = settings;
                let mut at = 0;
                for pod in self.running() {
                    self.after(at, Event::Replace(pod));
                    at += pause;
                }
            }
            Fault::Cut(target, length) => {
                let Some(pod) = self.find(target) else { return };
                self.cut(pod, length);
            }
            Fault::ServerDown(length) => {
                self.server.up = false;
                for pod in 0..self.pods.len() {
                    self.end_watch(pod);
                }
                self.after(length, Event::ServerUp);
            }
            Fault::Delete(remake, length, unseen) => {
                if unseen && let Some(pod) = self.find(Target::Leader) {
                    self.cut(pod, 40 * SECOND);
                }
                let old = self.server.delete();
                self.notify_watches();
                let old = old.filter(|_| remake == Remake::Copied);
                self.after(length, Event::MakeLease(old));
            }
            Fault::Label(times) => {
                for _ in 0..times {
                    let label = self.dice.u64(..).to_string();
                    let patch = json!({"metadata": {"labels": {"example.com/label": label}}});
                    self.write_to_lease(&patch);
                }
            }
            Fault::Garbage(times) => {
                for _ in 0..times {
                    let patch = foreign_writes::patch(&mut self.dice);
                    self.saw(Rare::Garbage);
                    self.write_to_lease(&patch);
                }
            }
            Fault::DiscordDown(length) => {
                self.discord.health = Health::Unreachable;
                self.after(length, Event::DiscordUp);
            }
            Fault::DiscordBroken(length) => {
                self.discord.health = Health::Broken;
                self.after(length, Event::DiscordUp);
            }
            // Never fewer: a new leader guesses that its predecessor made two grants in each
            // bucket of today.
            Fault::MoreBuckets => self.discord.buckets = (self.discord.buckets + 1).min(4),
        }
    }

    fn crash(&mut self, pod: usize, length: True) {
        self.pods[pod].gone = true;
        self.after(length, Event::Start);
    }

    pub(crate) fn cut(&mut self, pod: usize, length: True) {
        self.pods[pod].cut = true;
        self.after(length, Event::Reconnect(pod));
    }

    pub(crate) fn terminate(&mut self, pod: usize, delay: True) {
        self.after(delay, Event::Input(pod, Input::Terminate));
        self.after(delay + GRACE, Event::Kill(pod));
    }

    fn write_to_lease(&mut self, patch: &Value) {
        self.note(|| format!("another client writes {patch}"));
        self.server.write(patch);
        self.notify_watches();
    }

    pub(crate) fn make_lease(&mut self, like: Option<Value>) {
        if self.server.lease().is_none() {
            self.saw(Rare::LeaseRecreated);
            self.server.create(like);
            self.notify_watches();
        }
    }

    /// A request arrives at the API server.
    pub(crate) fn serve(&mut self, pod: usize, id: u64, request: Request) {
        if self.pods[pod].cut || (!self.server.up && self.dice.bool()) {
            return;
        }
        let (answer, changed) = if self.server.up {
            self.server.serve(&request)
        } else {
            let error = "the API server answered 503".to_owned();
            (Err(Failure::Other(error)), false)
        };
        self.note(|| format!("request {id} of pod {pod}: {answer:?}"));
        if answer == Err(Failure::Conflict) {
            self.saw(Rare::Conflict);
        }
        if changed && request.kind() == Some(Kind::Acquire) {
            self.last_to_acquire = Some(pod);
        }
        if changed && self.pods[pod].request != Some(id) {
            self.saw(Rare::AppliedAfterTimeout);
        }
        self.send(
            Event::Input(pod, Input::Answer(id, answer)),
            self.network.late,
        );
        if changed {
            self.notify_watches();
        }
    }

    fn notify_watches(&mut self) {
        if self.server.up {
            (0..self.pods.len()).for_each(|pod| self.notify_watch(pod));
        }
    }

    /// Sends the Lease to the watch of this pod.
    fn notify_watch(&mut self, pod: usize) {
        if self.pods[pod].gone || self.pods[pod].cut {
            return;
        }
        let Some(watch) = self.pods[pod].watched else {
            return;
        };
        match self.server.sent() {
            Some(sent) => {
                let input = Input::Watched(watch, sent);
                self.send(Event::Input(pod, input), self.network.stale);
            }
            None => self.end_watch(pod),
        }
    }

    /// A pod watches the Lease from this version on.
    pub(crate) fn watch(&mut self, pod: usize, id: u64, version: &str) {
        self.pods[pod].watched = Some(id);
        if self.pods[pod].cut || !self.server.up {
            self.end_watch(pod);
        } else if self.server.version() != Some(version) {
            self.notify_watch(pod);
        }
    }

    /// The connection of its watch ends, which the pod notices after a while.
    pub(crate) fn end_watch(&mut self, pod: usize) {
        if let Some(watch) = self.pods[pod].watched.take() {
            let delay = self.dice.u64(0..2 * SECOND);
            self.after(delay, Event::Input(pod, Input::WatchEnded(watch)));
        }
    }

    /// This pod can reach the API server again.
    pub(crate) fn reconnect(&mut self, pod: usize) {
        self.pods[pod].cut = false;
        self.end_watch(pod);
        let led = self.pods[pod].has_led && !self.pods[pod].gone;
        let other = self.last_to_acquire.is_some_and(|last| last != pod);
        if led && other {
            self.saw(Rare::ReturnedAfterAnotherLed);
        }
    }

    /// A request arrives at Discord.
    pub(crate) fn answer_fetch(&mut self, pod: usize, id: u64) {
        let outcome = self.discord.answer(self.now, &mut self.dice);
        let max = match self.discord.health {
            Health::Healthy | Health::Broken => self.discord_takes,
            Health::Unreachable => 10 * SECOND,
        };
        if self.discord.health == Health::Broken {
            self.saw(Rare::BrokenAnswer);
        }
        let delay = self.dice.u64(0..max);
        self.after(delay, Event::Input(pod, Input::Fetched(id, outcome)));
    }

    /// Ends all faults. What is in flight arrives soon, and lost requests time out soon.
    pub(crate) fn calm(&mut self) {
        self.note(|| "*** calm".to_owned());
        self.network = Network {
            lost: 0,
            late: 0,
            stale: 0,
            repeated: 0,
        };
        self.doomed = (0, 0, How::Terminated);
        self.discord.be_generous(self.now);
        self.discord_takes = SOON;
        self.server.up = true;
        self.make_lease(None);
        self.calm_since = Some(self.now);
        for ((at, _), event) in std::mem::take(&mut self.events) {
            let delay = match event {
                Event::Fault(_) | Event::Replace(_) | Event::Cut(_) => continue,
                Event::Alarm(..) | Event::Kill(_) => at - self.now,
                _ => self.dice.u64(0..SOON),
            };
            self.after(delay, event);
        }
        for pod in self.running() {
            self.pods[pod].cut = false;
            self.pods[pod].stop_at_grant = None;
            self.after(SOON, Event::Resume(pod));
            if let Some(id) = self.pods[pod].request {
                self.after(SOON, Event::Input(pod, Input::TimedOut(id)));
            }
        }
        self.after(SOON, Event::NotifyAll);
    }

    /// Everything in flight has arrived: sends the Lease to each watch.
    pub(crate) fn notify_all(&mut self) {
        (0..self.pods.len()).for_each(|pod| self.notify_watch(pod));
        let deadline = self.deadline();
        self.after(deadline, Event::Deadline { excused: false });
    }

    fn running(&self) -> Vec<usize> {
        let running = |pod: &usize| !self.pods[*pod].gone;
        (0..self.pods.len()).filter(running).collect()
    }

    fn find(&self, target: Target) -> Option<usize> {
        let running = self.running();
        let leads = |pod: &&usize| self.pods[**pod].right().is_some();
        let any = match target {
            Target::Leader => running.iter().find(leads).or(running.first()),
            Target::Any(n) => running.get(n % running.len().max(1)),
        };
        any.copied()
    }
}
