//! The API server: one Lease, and writes that carry the version which they
//! change.

use std::time::Duration;

use gateway_queue::election::{Answer, Lease, Write};
use gateway_queue::limits::Limits;
use gateway_queue_logbook::{Left, Release};

use crate::story::Broken;

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Read,
    Write(Write, Patch),
}

/// What a write puts into the Lease.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Take {
        holder: String,
        duration: Duration,
    },
    /// With what is known of the session starts.
    Renew(Option<Limits>),
    Release(Left),
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) lease: Option<Lease>,
    /// What its logbook says of the session starts.
    pub(crate) page: Option<Limits>,
    pub(crate) up: bool,
    broken: Broken,
    versions: u64,
    uids: u64,
}

impl Server {
    pub(crate) fn new(broken: Broken) -> Self {
        Self {
            lease: None,
            page: None,
            up: true,
            broken,
            versions: 0,
            uids: 0,
        }
    }

    /// Somebody makes a Lease where there is none, blank or like an old one.
    pub(crate) fn create(&mut self, like: Option<Lease>) {
        self.uids += 1;
        self.page = self.page.filter(|_| like.is_some());
        let blank = Lease {
            uid: String::new(),
            version: String::new(),
            holder: None,
            duration: None,
            release: None,
            address: None,
        };
        self.lease = Some(Lease {
            uid: format!("uid-{}", self.uids),
            version: self.next_version(),
            ..like.unwrap_or(blank)
        });
    }

    /// The operator makes the Lease of a GatewayQueue that is new.
    pub(crate) fn create_first(&mut self) {
        self.create(None);
        if let Some(lease) = &mut self.lease {
            lease.release = Some(Release::NeverLed);
        }
    }

    /// Somebody changes something that has nothing to do with leading.
    pub(crate) fn touch(&mut self) {
        let version = self.next_version();
        if let Some(lease) = &mut self.lease {
            lease.version = version;
        }
    }

    /// Does what was asked. The answer, and whether the Lease was changed.
    pub(crate) fn serve(&mut self, request: Request) -> (Answer, bool) {
        let next_version = self.next_version();
        let Some(lease) = &mut self.lease else {
            return (Answer::Missing, false);
        };
        let (write, patch) = match request {
            Request::Read => return (Answer::Lease(lease.clone()), false),
            Request::Write(write, patch) => (write, patch),
        };
        let same_version = write.version == lease.version;
        let same_version = same_version || self.broken == Broken::NoCompareAndSwap;
        if write.uid != lease.uid || !same_version {
            return (Answer::Conflict, false);
        }
        lease.version = next_version;
        match patch {
            Patch::Take { holder, duration } => {
                lease.address = Some(format!("address of {holder}"));
                lease.holder = Some(holder);
                lease.duration = Some(duration);
                lease.release = None;
                // It is of the leader before.
                self.page = None;
            }
            Patch::Renew(page) => self.page = page,
            Patch::Release(left) => {
                lease.holder = None;
                // As text, as it is in the annotation.
                lease.release = Release::read(&Release::Left(left).write());
            }
        }
        (Answer::Lease(lease.clone()), true)
    }

    fn next_version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }
}
