//! Which GatewayQueues of a namespace name the same token. Two queues would pace it independently,
//! so only the oldest one runs. Pure: time is an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::{Resource, ResourceExt as _};

use crate::api::{GatewayQueue, Stored};
use crate::desired::token_hash;
use crate::lock;

/// The GatewayQueues with a token.
#[derive(Debug, Default)]
pub struct TokenClaims {
    state: Mutex<State>,
}

/// Namespace and name of a GatewayQueue.
pub type Name = (String, String);

/// Namespace, and the hash of Secret and key.
type Place = (String, String);

/// After a GatewayQueue was deleted or names another token, its pods have stopped granting within
/// this time.
const STOPPED: Duration = Duration::from_secs(60);

/// Ordered by age, then by UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    since: Option<Timestamp>,
    uid: String,
    name: String,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<Name, (Place, Claim)>,
    claims: HashMap<Place, BTreeSet<Claim>>,
    /// When a GatewayQueue last gave up a token.
    freed: HashMap<Place, Instant>,
    /// The UIDs of those whose creation was observed: others may have had a leader before.
    born: HashSet<String>,
    /// The items of the current list so far, if there is one.
    listed: Option<HashSet<Name>>,
}

impl TokenClaims {
    /// Records a GatewayQueue. Returns the names of those that the change concerns.
    pub fn saw(&self, queue: &Stored, now: Instant) -> Vec<Name> {
        lock(&self.state).saw(queue, now)
    }

    /// The same for one that was not in a list: if it is new, it was just created.
    pub fn saw_live(&self, queue: &Stored, now: Instant) -> Vec<Name> {
        let mut state = lock(&self.state);
        if queue.meta().generation == Some(1) && queue.status().is_none() {
            state.born.extend(queue.uid());
        }
        state.saw(queue, now)
    }

    /// Records that a GatewayQueue was deleted. Returns as [`TokenClaims::saw`].
    pub fn lost(&self, queue: &Stored, now: Instant) -> Vec<Name> {
        let mut state = lock(&self.state);
        state.born.remove(&queue.uid().unwrap_or_default());
        state.lost(&name_of(queue), now)
    }

    /// Records that a list begins: a GatewayQueue that is not in it was deleted.
    pub fn list_begins(&self) {
        lock(&self.state).listed = Some(HashSet::new());
    }

    /// Records that the list has ended. Returns as [`TokenClaims::saw`].
    pub fn list_ends(&self, now: Instant) -> Vec<Name> {
        let mut state = lock(&self.state);
        let listed = state.listed.take().unwrap_or_default();
        let deleted: Vec<Name> = state
            .places
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        deleted
            .iter()
            .flat_map(|name| state.lost(name, now))
            .collect()
    }

    /// Returns the oldest GatewayQueue that uses the token of this one, if it is another.
    pub fn older(&self, queue: &GatewayQueue) -> Option<String> {
        let state = lock(&self.state);
        let (place, own) = state.places.get(&name_of(queue))?;
        let oldest = state.claims.get(place)?.first()?;
        (oldest != own).then(|| oldest.name.clone())
    }

    /// Whether the creation of this GatewayQueue was observed.
    pub fn is_new(&self, queue: &GatewayQueue) -> bool {
        lock(&self.state).is_new(queue)
    }

    /// Whether no other queue can have granted recently with the token of this GatewayQueue: its
    /// creation was observed, no other one names the token, and none gave it up recently.
    pub fn is_fresh(&self, queue: &GatewayQueue, now: Instant) -> bool {
        let state = lock(&self.state);
        if !state.is_new(queue) {
            return false;
        }
        let Some((place, _)) = state.places.get(&name_of(queue)) else {
            return true;
        };
        let alone = state
            .claims
            .get(place)
            .is_none_or(|claims| claims.len() == 1);
        let freed = state.freed.get(place);
        alone && freed.is_none_or(|at| now.saturating_duration_since(*at) >= STOPPED)
    }

    /// Returns the GatewayQueues that name the token of this hash.
    pub fn claimants(&self, namespace: &str, hash: &str) -> Vec<Name> {
        let place = (namespace.to_owned(), hash.to_owned());
        lock(&self.state).claimants(&place)
    }
}

impl State {
    fn is_new(&self, queue: &GatewayQueue) -> bool {
        let uid = queue.metadata.uid.as_ref();
        uid.is_some_and(|uid| self.born.contains(uid))
    }

    fn saw(&mut self, queue: &Stored, now: Instant) -> Vec<Name> {
        let name = name_of(queue);
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let Some(place) = place_of(queue) else {
            return self.lost(&name, now);
        };
        let claim = Claim {
            since: queue.creation_timestamp().map(|time| time.0),
            uid: queue.uid().unwrap_or_default(),
            name: name.1.clone(),
        };
        let new = (place, claim);
        if self.places.get(&name) == Some(&new) {
            return Vec::new();
        }
        let mut touched = self.lost(&name, now);
        touched.extend(self.claimants(&new.0));
        self.claims
            .entry(new.0.clone())
            .or_default()
            .insert(new.1.clone());
        self.places.insert(name, new);
        touched
    }

    fn lost(&mut self, name: &Name, now: Instant) -> Vec<Name> {
        let Some((place, claim)) = self.places.remove(name) else {
            return Vec::new();
        };
        self.freed
            .retain(|_, at| now.saturating_duration_since(*at) < STOPPED);
        self.freed.insert(place.clone(), now);
        if let Some(claims) = self.claims.get_mut(&place) {
            claims.remove(&claim);
            if claims.is_empty() {
                self.claims.remove(&place);
            }
        }
        self.claimants(&place)
    }

    fn claimants(&self, place: &Place) -> Vec<Name> {
        let claims = self.claims.get(place).into_iter().flatten();
        claims
            .map(|claim| (place.0.clone(), claim.name.clone()))
            .collect()
    }
}

fn name_of(queue: &impl Resource) -> Name {
    (
        queue.meta().namespace.clone().unwrap_or_default(),
        queue.meta().name.clone().unwrap_or_default(),
    )
}

fn place_of(queue: &Stored) -> Option<Place> {
    let hash = token_hash(queue.token()?);
    Some((queue.namespace().unwrap_or_default(), hash))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    use super::*;

    fn queue(name: &str, second: u32, secret: Option<&str>) -> GatewayQueue {
        let token = secret.map(|name| json!({"name": name}));
        let mut queue = crate::testing::queue(json!({ "tokenSecretRef": token }));
        let created = json!(format!("2026-11-23T12:00:{second:02}Z"));
        queue.metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some(format!("uid-of-{name}")),
            creation_timestamp: serde_json::from_value(created).unwrap(),
            ..ObjectMeta::default()
        };
        queue
    }

    fn stored(queue: &GatewayQueue) -> Stored {
        Stored::Queue(Box::new(queue.clone()))
    }

    fn saw(token_claims: &TokenClaims, queue: &GatewayQueue) -> Vec<Name> {
        token_claims.saw(&stored(queue), Instant::now())
    }

    fn name(name: &str) -> Name {
        ("shop".to_owned(), name.to_owned())
    }

    #[test]
    fn the_oldest_of_the_queues_that_share_a_token_has_it() {
        let token_claims = TokenClaims::default();
        let (old, young) = (queue("old", 1, Some("s")), queue("young", 2, Some("s")));
        assert_eq!(saw(&token_claims, &young), []);
        assert_eq!(token_claims.older(&young), None);
        // The other one has to be reconciled.
        assert_eq!(saw(&token_claims, &old), [name("young")]);
        assert_eq!(token_claims.older(&young).as_deref(), Some("old"));
        assert_eq!(token_claims.older(&old), None);
        assert_eq!(saw(&token_claims, &old), []);
        assert_eq!(
            token_claims.lost(&stored(&old), Instant::now()),
            [name("young")]
        );
        assert_eq!(token_claims.older(&young), None);
    }

    #[test]
    fn a_queue_that_names_another_token_frees_the_previous_one() {
        let token_claims = TokenClaims::default();
        let young = queue("young", 2, Some("s"));
        saw(&token_claims, &queue("old", 1, Some("s")));
        saw(&token_claims, &young);
        let moved = saw(&token_claims, &queue("old", 1, Some("other")));
        assert_eq!(moved, [name("young")]);
        assert_eq!(token_claims.older(&young), None);
        // So does one that no longer names a token.
        saw(&token_claims, &queue("old", 1, Some("s")));
        assert_eq!(saw(&token_claims, &queue("old", 1, None)), [name("young")]);
        assert_eq!(token_claims.older(&young), None);
    }

    #[test]
    fn another_key_or_namespace_is_another_token() {
        let token_claims = TokenClaims::default();
        let one = queue("one", 1, Some("s"));
        let mut key = queue("two", 2, Some("s"));
        key.spec.token_secret_ref.as_mut().unwrap().key = "other".to_owned();
        let mut elsewhere = queue("three", 3, Some("s"));
        elsewhere.metadata.namespace = Some("market".to_owned());
        for queue in [&one, &key, &elsewhere] {
            assert_eq!(saw(&token_claims, queue), []);
            assert_eq!(token_claims.older(queue), None);
        }
    }

    #[test]
    fn a_queue_that_is_missing_from_a_list_was_deleted() {
        let token_claims = TokenClaims::default();
        let (old, young) = (queue("old", 1, Some("s")), queue("young", 2, Some("s")));
        saw(&token_claims, &old);
        saw(&token_claims, &young);
        token_claims.list_begins();
        assert_eq!(saw(&token_claims, &young), []);
        assert_eq!(token_claims.older(&young).as_deref(), Some("old"));
        assert_eq!(token_claims.list_ends(Instant::now()), [name("young")]);
        assert_eq!(token_claims.older(&young), None);
        // One that cannot be read was not deleted.
        saw(&token_claims, &old);
        token_claims.list_begins();
        saw(&token_claims, &young);
        let mut broken = serde_json::to_value(&old).unwrap();
        broken["spec"]["port"] = json!("x");
        let broken = serde_json::from_value(broken).unwrap();
        assert_eq!(token_claims.saw(&broken, Instant::now()), []);
        assert_eq!(token_claims.list_ends(Instant::now()), []);
        assert_eq!(token_claims.older(&young).as_deref(), Some("old"));
    }

    /// One that was just created.
    fn born(name: &str, secret: &str) -> GatewayQueue {
        let mut born = queue(name, 1, Some(secret));
        born.metadata.generation = Some(1);
        born
    }

    #[test]
    fn only_an_observed_new_queue_with_a_token_of_its_own_is_fresh() {
        let (token_claims, now) = (TokenClaims::default(), Instant::now());
        let (a, b) = (born("a", "s"), born("b", "s"));
        // One from a list may be older.
        token_claims.saw(&stored(&a), now);
        assert!(!token_claims.is_fresh(&a, now));
        token_claims.saw_live(&stored(&a), now);
        assert!(token_claims.is_fresh(&a, now));
        token_claims.saw_live(&stored(&b), now);
        assert!(!token_claims.is_fresh(&a, now) && !token_claims.is_fresh(&b, now));
        // The next one has a predecessor.
        token_claims.lost(&stored(&a), now);
        let late = now + STOPPED;
        assert!(!token_claims.is_fresh(&b, now) && token_claims.is_fresh(&b, late));
    }

    #[test]
    fn a_queue_that_takes_over_a_token_is_not_fresh() {
        let (token_claims, now) = (TokenClaims::default(), Instant::now());
        let (before, after) = (born("before", "s"), born("after", "s"));
        token_claims.saw_live(&stored(&before), now);
        token_claims.lost(&stored(&before), now);
        token_claims.saw_live(&stored(&after), now);
        assert!(!token_claims.is_fresh(&after, now));
        let other = born("other", "t");
        token_claims.saw_live(&stored(&other), now);
        assert!(token_claims.is_fresh(&other, now));
        // Nor is one that was changed before it was first observed.
        let mut changed = born("changed", "u");
        changed.metadata.generation = Some(2);
        token_claims.saw_live(&stored(&changed), now);
        assert!(!token_claims.is_fresh(&changed, now));
    }
}
