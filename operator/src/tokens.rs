//! Which GatewayQueues of a namespace name the same token. Two of them would
//! pace it as if it were two, so only the oldest runs. Pure: it is told what
//! comes and goes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::{Resource, ResourceExt as _};

use crate::api::{GatewayQueue, Stored, TokenSecretRef};

/// The GatewayQueues that were seen with a token.
#[derive(Debug, Default)]
pub struct Tokens {
    seen: Mutex<Seen>,
}

/// Namespace and name of a GatewayQueue.
pub type Name = (String, String);

/// Namespace, Secret and key.
type Place = (String, String, String);

/// Ordered by age; of the same second, by UID, so that all agree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    since: Option<Timestamp>,
    uid: String,
    name: String,
}

#[derive(Debug, Default)]
struct Seen {
    places: HashMap<Name, (Place, Claim)>,
    claims: HashMap<Place, BTreeSet<Claim>>,
    /// Those that a list has brought so far, while one is under way.
    listed: Option<HashSet<Name>>,
}

impl Tokens {
    /// Notes a GatewayQueue as it is. The names of those whose right to the token
    /// that may change.
    pub fn saw(&self, queue: &Stored) -> Vec<Name> {
        self.lock().saw(queue)
    }

    /// Notes that a GatewayQueue is gone. As in [`Tokens::saw`].
    pub fn lost(&self, queue: &Stored) -> Vec<Name> {
        self.lock().lost(&name_of(queue))
    }

    /// A list of all begins: whoever is not in it is gone.
    pub fn list_begins(&self) {
        self.lock().listed = Some(HashSet::new());
    }

    /// The list has ended. As in [`Tokens::saw`].
    pub fn list_ends(&self) -> Vec<Name> {
        let mut seen = self.lock();
        let listed = seen.listed.take().unwrap_or_default();
        let gone: Vec<Name> = seen
            .places
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        gone.iter().flat_map(|name| seen.lost(name)).collect()
    }

    /// The name of the oldest GatewayQueue that uses the token of this one, if
    /// that is another.
    pub fn older(&self, queue: &GatewayQueue) -> Option<String> {
        let seen = self.lock();
        let (place, own) = seen.places.get(&name_of(queue))?;
        let oldest = seen.claims.get(place)?.first()?;
        (oldest != own).then(|| oldest.name.clone())
    }

    /// Whether any other GatewayQueue names the token of this one.
    pub fn is_shared(&self, queue: &GatewayQueue) -> bool {
        let seen = self.lock();
        let place = seen.places.get(&name_of(queue)).map(|(place, _)| place);
        place
            .and_then(|place| seen.claims.get(place))
            .is_some_and(|claims| claims.len() > 1)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Each note is whole, whatever happened to another thread.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn saw(&mut self, queue: &Stored) -> Vec<Name> {
        let name = name_of(queue);
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let Some(place) = place_of(queue) else {
            return self.lost(&name);
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
        let mut touched = self.lost(&name);
        touched.extend(self.claimants(&new.0));
        self.claims
            .entry(new.0.clone())
            .or_default()
            .insert(new.1.clone());
        self.places.insert(name, new);
        touched
    }

    fn lost(&mut self, name: &Name) -> Vec<Name> {
        let Some((place, claim)) = self.places.remove(name) else {
            return Vec::new();
        };
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
    let TokenSecretRef { name, key } = queue.token()?.clone();
    Some((queue.namespace().unwrap_or_default(), name, key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn queue(name: &str, second: u32, secret: Option<&str>) -> GatewayQueue {
        let token = secret.map(|name| json!({"name": name}));
        let spec = match token {
            Some(token) => json!({"tokenSecretRef": token}),
            None => json!({}),
        };
        serde_json::from_value(json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1",
            "kind": "GatewayQueue",
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("uid-of-{name}"),
                "creationTimestamp": format!("2026-11-23T12:00:{second:02}Z"),
            },
            "spec": spec,
        }))
        .unwrap()
    }

    fn stored(queue: &GatewayQueue) -> Stored {
        Stored::Queue(Box::new(queue.clone()))
    }

    fn saw(tokens: &Tokens, queue: &GatewayQueue) -> Vec<Name> {
        tokens.saw(&stored(queue))
    }

    fn name(name: &str) -> Name {
        ("shop".to_owned(), name.to_owned())
    }

    #[test]
    fn the_oldest_of_those_that_share_a_token_has_it() {
        let tokens = Tokens::default();
        let (old, young) = (queue("old", 1, Some("s")), queue("young", 2, Some("s")));
        assert_eq!(saw(&tokens, &young), []);
        assert_eq!(tokens.older(&young), None);
        // The other has to be looked at again.
        assert_eq!(saw(&tokens, &old), [name("young")]);
        assert_eq!(tokens.older(&young).as_deref(), Some("old"));
        assert_eq!(tokens.older(&old), None);
        assert!(tokens.is_shared(&old) && tokens.is_shared(&young));
        // The same once more is no news.
        assert_eq!(saw(&tokens, &old), []);
        assert_eq!(tokens.lost(&stored(&old)), [name("young")]);
        assert_eq!(tokens.older(&young), None);
        assert!(!tokens.is_shared(&young));
    }

    #[test]
    fn of_two_of_the_same_second_all_choose_the_same() {
        let tokens = Tokens::default();
        let (a, b) = (queue("a", 1, Some("s")), queue("b", 1, Some("s")));
        saw(&tokens, &b);
        saw(&tokens, &a);
        assert_eq!(tokens.older(&b).as_deref(), Some("a"));
        assert_eq!(tokens.older(&a), None);
    }

    #[test]
    fn who_goes_on_to_another_token_frees_the_one_before() {
        let tokens = Tokens::default();
        let young = queue("young", 2, Some("s"));
        saw(&tokens, &queue("old", 1, Some("s")));
        saw(&tokens, &young);
        let moved = saw(&tokens, &queue("old", 1, Some("other")));
        assert_eq!(moved, [name("young")]);
        assert_eq!(tokens.older(&young), None);
        // And who has none any more.
        saw(&tokens, &queue("old", 1, Some("s")));
        assert_eq!(saw(&tokens, &queue("old", 1, None)), [name("young")]);
        assert_eq!(tokens.older(&young), None);
    }

    #[test]
    fn another_key_or_namespace_is_another_token() {
        let tokens = Tokens::default();
        let one = queue("one", 1, Some("s"));
        let mut key = queue("two", 2, Some("s"));
        key.spec.token_secret_ref.as_mut().unwrap().key = "other".to_owned();
        let mut elsewhere = queue("three", 3, Some("s"));
        elsewhere.metadata.namespace = Some("market".to_owned());
        for queue in [&one, &key, &elsewhere] {
            assert_eq!(saw(&tokens, queue), []);
            assert_eq!(tokens.older(queue), None);
        }
    }

    #[test]
    fn who_is_missing_from_a_list_is_gone() {
        let tokens = Tokens::default();
        let (old, young) = (queue("old", 1, Some("s")), queue("young", 2, Some("s")));
        saw(&tokens, &old);
        saw(&tokens, &young);
        tokens.list_begins();
        assert_eq!(saw(&tokens, &young), []);
        assert_eq!(tokens.older(&young).as_deref(), Some("old"));
        assert_eq!(tokens.list_ends(), [name("young")]);
        assert_eq!(tokens.older(&young), None);
        // But not who is there and cannot be read.
        saw(&tokens, &old);
        tokens.list_begins();
        saw(&tokens, &young);
        let mut broken = serde_json::to_value(&old).unwrap();
        broken["spec"]["port"] = json!("x");
        let broken = serde_json::from_value(broken).unwrap();
        assert_eq!(tokens.saw(&broken), []);
        assert_eq!(tokens.list_ends(), []);
        assert_eq!(tokens.older(&young).as_deref(), Some("old"));
    }
}
