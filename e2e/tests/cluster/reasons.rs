//! Failures of pods, tokens and names. The status and the events report each one with what to do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{
    ACCOUNT, Api, CHILDREN, CONFIG, DEPLOYMENT, EVENT, POD, QUEUE, SERVICE, condition,
};
use crate::children::Children;
use crate::kubectl::{Namespace, TOKEN, discord_api, operator_image, shards_image};
use crate::wait::settle;

/// Images are pulled, pods restarted and Secrets mounted at the kubelet's own pace.
const PATIENCE: Duration = Duration::from_secs(120);

/// An object has fewer events than this after a few minutes.
const EVENT_LIMIT: u64 = 15;

/// A namespace and what is reported about its GatewayQueues.
pub(crate) struct Context {
    pub(crate) namespace: Namespace,
    pub(crate) api: Api,
}

impl Context {
    fn new(name: &str) -> Self {
        Self::of(Namespace::new(name))
    }

    pub(crate) fn of(namespace: Namespace) -> Self {
        let api = Api::new();
        Self { namespace, api }
    }

    pub(crate) fn apply(&self, name: &str, spec: &Value) {
        let namespace = self.namespace.name();
        self.api.apply_queue(namespace, name, spec).unwrap();
    }

    /// Creates a Service of this name that belongs to another client.
    pub(crate) fn take_name(&self, name: &str) -> Value {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": {"owner": "another-client"}},
            "spec": {"ports": [{"port": 1234}], "selector": {"app": "theirs"}},
        });
        let namespace = self.namespace.name();
        self.api.create(SERVICE, namespace, &service).unwrap()
    }

    /// Limits a resource in the namespace.
    fn limit(&self, name: &str, hard: &Value) {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
            "spec": {"hard": hard},
        });
        self.namespace.apply(&quota.to_string()).unwrap();
    }

    /// Waits until Ready has this reason and a message with all of the `parts`, and until an
    /// event has the reason, too.
    pub(crate) fn reports(&self, name: &str, reason: &str, parts: &[&str]) {
        settle(PATIENCE, || {
            let queue = self.api.get(QUEUE, self.namespace.name(), name);
            let [_, found, message] = condition(&queue.unwrap_or_default(), "Ready");
            let wrong = found != reason || parts.iter().any(|part| !message.contains(part));
            wrong.then(|| format!("{name} is {found}: {message}\nnot {reason}: {parts:?}"))
        });
        self.reports_by_event(name, reason);
    }

    /// Waits until an event has this reason.
    pub(crate) fn reports_by_event(&self, name: &str, reason: &str) {
        settle(PATIENCE, || {
            let events = self.events(name);
            let reported = events.iter().any(|event| event["reason"] == reason);
            (!reported).then(|| format!("no event of {name} has {reason}: {events:#?}"))
        });
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let mut events = self.api.list(EVENT, self.namespace.name());
        events.retain(|event| {
            let regarding = &event["regarding"];
            regarding["kind"] == "GatewayQueue" && regarding["name"] == name
        });
        events
    }

    /// Asserts that there are few events, and that none was repeated often.
    fn has_few_events(&self, name: &str) {
        let events = self.events(name);
        let counts = events.iter().map(|event| event["series"]["count"].as_u64());
        let count: u64 = counts.map(|count| count.unwrap_or(1)).sum();
        assert!(
            count > 0 && count < EVENT_LIMIT,
            "{count} events: {events:#?}"
        );
    }
}

#[test]
fn the_cause_of_a_failing_pod_is_reported_with_what_to_do() {
    let context = Context::new("failing-pods");
    // Every pod needs a CPU limit where a quota counts it; one exceeds the quota.
    context.limit("no-big-ones", &json!({"limits.cpu": "1"}));
    let limits = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu, "memory": "64Mi"}}});
    let small = limits("100m");
    let none = "nowhere.invalid/queue:none";
    let mut unschedulable = json!({"pod": small});
    unschedulable["pod"]["nodeSelector"]["disk"] = json!("golden");
    let rows: [(&str, Value, &str, &[&str]); 5] = [
        (
            "no-image",
            json!({"pod": small, "image": none}),
            "ImagePullFailed",
            &[none, "cannot be pulled", "spec.image"],
        ),
        (
            "no-node",
            unschedulable,
            "PodUnschedulable",
            &[
                "No node accepts pod",
                "0/1 nodes are available",
                "nodeSelector",
            ],
        ),
        (
            // A program that exits because an environment variable is missing.
            "crashes",
            json!({"pod": small, "image": operator_image()}),
            "PodCrashing",
            &["exit code 1", "QUEUE_IMAGE"],
        ),
        (
            // An image without an entry point.
            "no-program",
            json!({"pod": small, "image": shards_image()}),
            "PodFailed",
            &["cannot be started", "no command specified"],
        ),
        (
            "too-big",
            json!({"pod": limits("2")}),
            "PodRefused",
            &["exceeded quota: no-big-ones", "limits.cpu=2"],
        ),
    ];
    for (name, spec, ..) in &rows {
        context.apply(name, spec);
    }
    for (name, _, reason, words) in &rows {
        context.reports(name, reason, words);
    }
    for (name, ..) in &rows {
        context.has_few_events(name);
    }
}

#[test]
fn a_quota_of_zero_pods_is_reported_and_its_end_is_noticed() {
    let context = Context::new("quota");
    context.limit("no-pods", &json!({"pods": "0"}));
    context.apply("my-bot", &json!({}));
    let parts = ["exceeded quota: no-pods", "pods=0"];
    context.reports("my-bot", "PodRefused", &parts);
    let delete = "delete resourcequota no-pods";
    context.namespace.kubectl(delete).unwrap();
    // The Deployment's own controller retries at growing intervals.
    context.reports("my-bot", "Granting", &[]);
    context.has_few_events("my-bot");
}

#[test]
fn a_queue_with_the_longest_name_grants() {
    let context = Context::new("longest");
    let longest = "n".repeat(57);
    context.apply(&longest, &json!({"replicas": 2}));
    context.reports(&longest, "Granting", &[]);
    let name = context.namespace.name();
    let children = Children::of(&context.api, name);
    let found: Vec<_> = children.named(&longest).map(|(word, _)| word).collect();
    let optional = usize::from(found.contains(&"NetworkPolicy"));
    assert_eq!(found.len(), CHILDREN.len() - 1 + optional, "{found:?}");
    let url = format!("http://{longest}.{name}.svc");
    let status = context.api.get(QUEUE, name, &longest).unwrap();
    assert_eq!(status["status"]["url"], url.as_str());
}

#[test]
fn a_missing_secret_is_reported_and_the_queue_grants_once_it_exists() {
    let context = Context::new("secret");
    let create = || {
        let create = format!("create secret generic late --from-literal=bot-token={TOKEN}");
        context.namespace.kubectl(&create).unwrap();
    };
    let create_command = "kubectl -n gwq-e2e-secret create secret";
    let parts = ["Secret late", "key bot-token", create_command];
    let spec = json!({
        "tokenSecretRef": {"name": "late", "key": "bot-token"},
        "discordApi": discord_api(),
    });
    context.apply("my-bot", &spec);
    context.reports("my-bot", "TokenMissing", &parts);
    create();
    context.reports("my-bot", "Granting", &[]);
    context.namespace.kubectl("delete secret late").unwrap();
    context.reports("my-bot", "TokenMissing", &parts);
    create();
    context.reports("my-bot", "Granting", &[]);
    context.has_few_events("my-bot");
    let restarts = ".items[*].status.containerStatuses[*].restartCount";
    assert_eq!(context.namespace.field("pods", restarts), "0");
}

#[test]
fn a_foreign_service_is_left_alone_and_its_name_is_used_once_it_is_free() {
    let context = Context::new("foreign-service");
    let name = context.namespace.name();
    let before = context.take_name("my-bot");
    context.apply("my-bot", &json!({"replicas": 0}));
    context.reports("my-bot", "NameTaken", &["Service", "does not own"]);
    assert_eq!(context.api.get(SERVICE, name, "my-bot"), Some(before));
    let children = Children::of(&context.api, name);
    let found: Vec<_> = children.named("my-bot").map(|(word, _)| word).collect();
    assert_eq!(found, ["Service"]);
    context.api.delete(SERVICE, name, "my-bot").unwrap();
    context.reports("my-bot", "ScaledToZero", &[]);
    let children = Children::of(&context.api, name);
    assert!(children.get("Service", "my-bot").is_some());
    context.has_few_events("my-bot");
}

/// People name their bot's own objects like its queue.
#[test]
fn objects_of_a_bot_may_have_the_name_of_its_queue() {
    let context = Context::new("same-name");
    let (api, name) = (&context.api, context.namespace.name());
    let labels = json!({"app": "my-bot"});
    let deployment = json!({
        "selector": {"matchLabels": labels},
        "replicas": 0,
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "bot", "image": "bot"}]},
        },
    });
    let bot = [
        (DEPLOYMENT, json!({ "spec": deployment })),
        (ACCOUNT, json!({})),
        (CONFIG, json!({"data": {"shards": "16"}})),
    ];
    for (kind, fields) in &bot {
        let mut object = fields.clone();
        object["apiVersion"] = kind.version.into();
        object["kind"] = kind.word.into();
        object["metadata"] = json!({"name": "my-bot"});
        api.create(*kind, name, &object).unwrap();
    }
    context.apply("my-bot", &json!({}));
    context.reports("my-bot", "Granting", &[]);
    context.api.delete(QUEUE, name, "my-bot").unwrap();
    settle(PATIENCE, || {
        let left = Children::of(api, name);
        let left: Vec<_> = left.named("my-bot").map(|(word, _)| word).collect();
        (!left.is_empty()).then(|| format!("{left:?}"))
    });
    for (kind, _) in bot {
        let object = api.get(kind, name, "my-bot").unwrap();
        let metadata = &object["metadata"];
        assert!(metadata["ownerReferences"].is_null(), "{metadata:#}");
        assert!(metadata["labels"].is_null(), "{metadata:#}");
    }
}

#[test]
fn of_two_queues_with_one_token_the_younger_stops_until_the_older_is_deleted() {
    let context = Context::new("one-token");
    let name = context.namespace.name();
    context.namespace.create_secret("shared");
    let spec = json!({"tokenSecretRef": {"name": "shared"}, "discordApi": discord_api()});
    context.apply("older", &spec);
    context.reports("older", "Granting", &[]);
    context.apply("younger", &spec);
    let parts = ["GatewayQueue older is older", "Secret shared"];
    context.reports("younger", "TokenShared", &parts);
    let deployments = Children::of(&context.api, name);
    let younger = deployments.get("Deployment", "younger").unwrap();
    assert_eq!(younger["spec"]["replicas"], 0);
    context.reports("older", "Granting", &[]);
    context.api.delete(QUEUE, name, "older").unwrap();
    // The garbage collector is slow while other tests end.
    settle(PATIENCE * 3, || {
        let pods = context.api.list(POD, name);
        let left = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "older");
        left.map(|pod| format!("pod {} exists", pod["metadata"]["name"]))
            .collect::<Vec<_>>()
    });
    context.reports("younger", "Granting", &[]);
    context.has_few_events("younger");
}
