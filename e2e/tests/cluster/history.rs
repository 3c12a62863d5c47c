//! Objects that were stored by the first CRD of this repository, under the present
//! one.
//!
//! CRDs belong to the whole cluster, so both go by another name here: the operator,
//! and the tests beside this one, see nothing of it.

use std::path::Path;

use serde_json::{Value, json};

use crate::api::{Api, Kind, QUEUE, queue};
use crate::children::settle;
use crate::kubectl::Namespace;
use crate::life::PATIENCE;

const KIND: Kind = Kind {
    word: "StoredQueue",
    version: "history.gatewayqueue.dev/v1alpha1",
    plural: "storedqueues",
};
const NAME: &str = "storedqueues.history.gatewayqueue.dev";

/// What was valid then: the smallest, each bound, each field.
fn stored() -> Vec<Value> {
    vec![
        json!({}),
        json!({"tokenSecretRef": {"name": "my-bot"}}),
        json!({"maxConcurrency": 4096}),
        json!({"host": "::", "port": 1, "interval": "60m", "margin": "60s"}),
        json!({"port": 65535, "interval": "5s", "margin": "0s", "sessionReserve": 1_000_000}),
        json!({"interval": "0.1m", "margin": "1.5s"}),
        json!({"discordApi": "http://proxy:8080/api/v10"}),
        json!({"image": "a:1", "imagePullPolicy": "Never", "imagePullSecrets": [{"name": "s"}]}),
        json!({"logLevel": "trace", "logFormat": "json"}),
        json!({"service": {
            "type": "LoadBalancer", "port": 65535, "labels": {"a": "b"}, "annotations": {"c": "d"},
        }}),
        json!({"pod": {
            "labels": {"a": "b"}, "annotations": {"c": "d"},
            "resources": {"requests": {"cpu": 1, "memory": "8Mi"}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["n"]},
                ]}],
            }}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
            ],
            "priorityClassName": "high", "terminationGracePeriodSeconds": 0,
        }}),
        json!({"pod": null, "tokenSecretRef": null, "image": null, "imagePullSecrets": null}),
        json!({"pod": {"terminationGracePeriodSeconds": 86400, "resources": {}, "labels": null}}),
    ]
}

#[test]
fn what_the_first_crd_stored_is_valid_under_the_present_one() {
    let namespace = Namespace::new("history");
    let api = Api::new(&namespace);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let first = crd(&namespace, &root.join("history/gatewayqueues-first.yaml"));
    let present = root.parent().unwrap();
    let present = present.join("crds/gatewayqueue.dev_gatewayqueues.yaml");
    let present = crd(&namespace, &present);
    let definition = Definition::install(&namespace, &first);
    served(&api, &namespace);

    let specs = stored();
    let mut before = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let object = json!({
            "apiVersion": KIND.version, "kind": KIND.word,
            "metadata": {"name": format!("q-{number}")}, "spec": spec,
        });
        let made = api.create(KIND, namespace.name(), &object);
        before.push(made.unwrap_or_else(|refusal| panic!("{spec}: {refusal:?}")));
    }
    assert_eq!(before[0]["spec"]["replicas"], Value::Null);
    definition.replace(&present);
    // The API server takes up a new schema a moment after it has it.
    settle(PATIENCE, || {
        let object = api.get(KIND, namespace.name(), "q-0").unwrap();
        (object["spec"]["replicas"] != 1)
            .then(|| format!("the present CRD is not in force: {object}"))
            .into_iter()
            .collect()
    });
    for (number, before) in before.iter().enumerate() {
        let name = format!("q-{number}");
        let after = api.get(KIND, namespace.name(), &name).unwrap();
        // Nothing is lost, and what is new has its default.
        let mut wanted = before["spec"].clone();
        wanted["replicas"] = json!(1);
        assert_eq!(after["spec"], wanted, "{name}");
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        let label = json!({"metadata": {"labels": {"seen": "true"}}});
        let labelled = api.merge(KIND, namespace.name(), &name, &label);
        labelled.unwrap_or_else(|refusal| panic!("{wanted}: {refusal:?}"));
        // As the operator that goes with the present CRD reads it.
        let again = api.create(
            QUEUE,
            namespace.name(),
            &queue(&name, &paused(&after["spec"])),
        );
        again.unwrap_or_else(|refusal| panic!("{wanted}: {refusal:?}"));
    }
    settle(PATIENCE, || {
        let queues = api.list(QUEUE, namespace.name());
        let unread = queues
            .iter()
            .filter(|queue| queue["status"]["conditions"][0]["reason"] != "ScaledToZero");
        unread.map(|queue| format!("not made: {queue:#}")).collect()
    });
}

/// The same without pods.
fn paused(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["replicas"] = json!(0);
    spec
}

/// A CRD of a file, under the other name.
fn crd(namespace: &Namespace, file: &Path) -> Value {
    let file = file.display().to_string();
    let read = [
        "create",
        "--dry-run=client",
        "--output=json",
        "--filename",
        &file,
    ];
    let mut crd: Value = serde_json::from_str(&namespace.kubectl(&read).unwrap()).unwrap();
    let (group, _) = KIND.version.split_once('/').unwrap();
    crd["metadata"] = json!({ "name": NAME });
    crd["spec"]["group"] = group.into();
    crd["spec"]["names"] = json!({
        "kind": KIND.word, "plural": KIND.plural, "singular": KIND.word.to_lowercase(),
    });
    crd
}

fn served(api: &Api, namespace: &Namespace) {
    let path = KIND.path(namespace.name(), "");
    settle(PATIENCE, || {
        let served = api.read(&path);
        served.err().map(|e| format!("{e:?}")).into_iter().collect()
    });
}

/// A CRD that is removed when this is dropped.
struct Definition<'a>(&'a Namespace);

impl<'a> Definition<'a> {
    fn install(namespace: &'a Namespace, crd: &Value) -> Self {
        let definition = Self(namespace);
        definition.remove();
        definition.replace(crd);
        definition
    }

    fn replace(&self, crd: &Value) {
        let server_side = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--filename",
            "-",
        ];
        self.0.feed(&server_side, &crd.to_string()).unwrap();
    }

    fn remove(&self) {
        let delete = ["delete", "crd", NAME, "--ignore-not-found", "--timeout=60s"];
        let _ = self.0.kubectl(&delete);
    }
}

impl Drop for Definition<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
