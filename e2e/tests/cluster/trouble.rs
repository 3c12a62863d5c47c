//! What goes wrong with pods, tokens and names, and what the status and the
//! events then say: it is all that a person has.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, CHILDREN, QUEUE, SERVICE, queue};
use crate::children::{Children, settle};
use crate::kubectl::{Namespace, discord_api, operator_image, shards_image};

/// Images are pulled, pods crash and files reach them at the kubelet's own pace.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// No object tells of more in the few minutes of a test.
const FLOOD: u64 = 15;

pub(crate) struct Place {
    pub(crate) namespace: Namespace,
    pub(crate) api: Api,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let namespace = Namespace::new(name);
        let api = Api::new(&namespace);
        Self { namespace, api }
    }

    pub(crate) fn apply(&self, name: &str, spec: &Value) {
        self.api
            .apply_queue(self.namespace.name(), name, spec)
            .unwrap();
    }

    /// Waits until Ready has this reason, and its message all of the `words`; and
    /// until an event says so, too.
    pub(crate) fn says(&self, name: &str, reason: &str, words: &[&str]) {
        settle(PATIENCE, || {
            let (told, message) = self.ready(name);
            let wrong = told != reason || words.iter().any(|word| !message.contains(word));
            wrong
                .then(|| format!("{name} is {told}: {message}\nand shall be {reason}: {words:?}"))
                .into_iter()
                .collect()
        });
        settle(PATIENCE, || {
            let events = self.events(name);
            let told = events.iter().any(|event| event["reason"] == reason);
            let wrong = || format!("no event of {name} says {reason}: {events:#?}");
            (!told).then(wrong).into_iter().collect()
        });
    }

    pub(crate) fn ready(&self, name: &str) -> (String, String) {
        let queue = self.api.get(QUEUE, self.namespace.name(), name);
        let queue = queue.unwrap_or_default();
        let mut conditions = queue["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        let ready = conditions.find(|condition| condition["type"] == "Ready");
        let word = |field: &str| {
            let said = ready.and_then(|ready| ready[field].as_str());
            said.unwrap_or("nothing").to_owned()
        };
        (word("reason"), word("message"))
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let path = format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events",
            self.namespace.name()
        );
        let mut events = self.api.read(&path).unwrap();
        let mut events: Vec<Value> = serde_json::from_value(events["items"].take()).unwrap();
        events.retain(|event| {
            let regarding = &event["regarding"];
            regarding["kind"] == "GatewayQueue" && regarding["name"] == name
        });
        events
    }

    /// No event was repeated over and over, and there are not many either.
    pub(crate) fn no_flood(&self, name: &str) {
        let events = self.events(name);
        let count: u64 = events
            .iter()
            .map(|event| event["series"]["count"].as_u64().unwrap_or(1))
            .sum();
        assert!(count > 0 && count < FLOOD, "{count} events: {events:#?}");
    }
}

#[test]
fn what_keeps_a_pod_from_running_is_said_with_what_to_do() {
    let place = Place::new("trouble");
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-big-ones"},
        "spec": {"hard": {"limits.cpu": "1"}},
    });
    // A limit of CPU must be named where a quota counts it; one names too much.
    place.namespace.apply(&quota.to_string()).unwrap();
    let limits = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu, "memory": "64Mi"}}});
    let with = |mut spec: Value, pod: Value| {
        spec["pod"] = limits("100m");
        if let Some(pod) = pod.as_object() {
            spec["pod"].as_object_mut().unwrap().extend(pod.clone());
        }
        spec
    };
    let operator = operator_image();
    let shards = shards_image();
    let none = "nowhere.invalid/queue:none";
    let rows = [
        (
            "no-image",
            with(json!({ "image": none }), Value::Null),
            "ImagePullFailed",
            vec![none, "cannot be pulled", "spec.image"],
        ),
        (
            "no-node",
            with(json!({}), json!({"nodeSelector": {"disk": "golden"}})),
            "PodUnschedulable",
            vec![
                "No node takes pod",
                "0/1 nodes are available",
                "nodeSelector",
            ],
        ),
        (
            // A program that misses what it must be told, and says so.
            "crashes",
            with(json!({ "image": operator }), Value::Null),
            "PodCrashing",
            vec!["exit code 1", "QUEUE_IMAGE"],
        ),
        (
            // An image that names no program.
            "no-program",
            with(json!({ "image": shards }), Value::Null),
            "PodFailed",
            vec!["cannot be started", "no command specified"],
        ),
        (
            "too-big",
            json!({"pod": limits("2")}),
            "PodRefused",
            vec!["exceeded quota: no-big-ones", "limits.cpu=2"],
        ),
    ];
    for (name, spec, ..) in &rows {
        place.apply(name, spec);
    }
    for (name, _, reason, words) in &rows {
        place.says(name, reason, words);
    }
    for (name, ..) in &rows {
        place.no_flood(name);
    }
}

#[test]
fn a_quota_without_any_pods_is_said_and_its_end_is_noticed() {
    let place = Place::new("quota");
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods"},
        "spec": {"hard": {"pods": "0"}},
    });
    place.namespace.apply(&quota.to_string()).unwrap();
    place.apply("my-bot", &json!({}));
    place.says(
        "my-bot",
        "PodRefused",
        &["exceeded quota: no-pods", "pods=0"],
    );
    place
        .namespace
        .kubectl(&["delete", "resourcequota", "no-pods"])
        .unwrap();
    // The Deployment's own controller tries again, later and later.
    place.says("my-bot", "Granting", &[]);
    place.no_flood("my-bot");
}

#[test]
fn the_longest_name_becomes_ready_and_one_that_is_longer_is_refused() {
    let place = Place::new("longest");
    let longest = "n".repeat(63);
    place.apply(&longest, &json!({"replicas": 2}));
    place.says(&longest, "Granting", &[]);
    let children = Children::of(&place.api, place.namespace.name());
    let found: Vec<_> = children.named(&longest).map(|(word, _)| word).collect();
    let optional = usize::from(found.contains(&"NetworkPolicy"));
    assert_eq!(found.len(), CHILDREN.len() - 1 + optional, "{found:?}");
    let url = format!("http://{longest}.{}.svc", place.namespace.name());
    let name = place.namespace.name();
    let status = place.api.get(QUEUE, name, &longest).unwrap();
    assert_eq!(status["status"]["url"], url.as_str());

    let longer = place
        .api
        .create(QUEUE, name, &queue(&"n".repeat(64), &json!({})));
    let refusal = longer.unwrap_err();
    assert_eq!(refusal.code, 422);
    assert!(
        refusal.message.contains("at most 63 characters"),
        "{refusal:?}"
    );
}

#[test]
fn a_secret_that_is_deleted_later_is_missed() {
    let place = Place::new("deleted-secret");
    place.namespace.create_secret("my-bot");
    let spec = json!({"tokenSecretRef": {"name": "my-bot"}, "discordApi": discord_api()});
    place.apply("my-bot", &spec);
    place.says("my-bot", "Granting", &[]);
    place
        .namespace
        .kubectl(&["delete", "secret", "my-bot"])
        .unwrap();
    let words = [
        "Secret my-bot",
        "key token",
        "kubectl -n gwq-e2e-deleted-secret create secret",
    ];
    place.says("my-bot", "TokenMissing", &words);
    place.namespace.create_secret("my-bot");
    place.says("my-bot", "Granting", &[]);
    place.no_flood("my-bot");
}

#[test]
fn a_strangers_service_is_left_alone_and_the_name_is_taken_once_it_is_free() {
    let place = Place::new("stranger");
    let name = place.namespace.name();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "my-bot", "labels": {"of": "a-stranger"}},
        "spec": {"ports": [{"port": 1234}], "selector": {"app": "theirs"}},
    });
    let before = place.api.create(SERVICE, name, &service).unwrap();
    place.apply("my-bot", &json!({"replicas": 0}));
    place.says("my-bot", "NameTaken", &["Service", "Nothing was touched"]);
    assert_eq!(place.api.get(SERVICE, name, "my-bot"), Some(before));
    let children = Children::of(&place.api, name);
    let found: Vec<_> = children.named("my-bot").map(|(word, _)| word).collect();
    assert_eq!(found, ["Service"]);
    place.api.delete(SERVICE, name, "my-bot").unwrap();
    place.says("my-bot", "ScaledToZero", &[]);
    let children = Children::of(&place.api, name);
    assert!(children.get("Service", "my-bot").is_some());
    place.no_flood("my-bot");
}
