//! The operator's rights: enough for everything that it does, and no more.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Api, BUDGET, LEASE, POD, QUEUE, SERVICE, condition};
use crate::children::Children;
use crate::faults::node::api_server_was_starting;
use crate::kubectl::{Namespace, OPERATOR, discord_api, run_started, say, variable};
use crate::schedule::Phase;
use crate::wait::settle;

const PATIENCE: Duration = Duration::from_secs(90);

/// The most time from the operator's start to its first log line.
const FIRST_LINE: Duration = Duration::from_secs(10);

/// The release that watches one namespace.
const NARROW: &str = "gwq-e2e-narrow";

/// The parts of a refusal by RBAC. A request to a terminating namespace is forbidden, too, but
/// the refusal names no user.
const FORBIDDEN: [&str; 2] = ["forbidden", "system:serviceaccount:"];

#[test]
fn no_request_of_the_operator_was_forbidden_in_any_test() {
    let namespace = Namespace::in_phase("rights", Phase::Log);
    let api = Api::new(&namespace);
    let deployment = format!("deployment/{}", OPERATOR.1);
    let log = ["logs", "--namespace", OPERATOR.0, &deployment, "--tail=-1"];
    let log = namespace.kubectl(&log).unwrap();
    // A rotated log would lack its beginning.
    let first = log.lines().find_map(time);
    let whole =
        first.is_some_and(|first| first < operator_started(&api).max(run_started()) + FIRST_LINE);
    assert!(whole, "the log begins at {first:?}: {log}");
    assert_none_forbidden(&log);
    say(&format!(
        "rights: {} lines of log, none forbidden",
        log.lines().count()
    ));

    let account = format!("{}:{}", OPERATOR.0, OPERATOR.1);
    let may = |verb: &str, resource: &str, namespace: &str| {
        may(&api, &account, verb, resource, namespace)
    };
    // Shows that the reviews themselves are right.
    assert!(may("patch", "services", namespace.name()));
    for namespace in ["", "default", OPERATOR.0, namespace.name()] {
        for verb in [
            "get", "list", "watch", "create", "update", "patch", "delete", "*",
        ] {
            for resource in ["secrets", "configmaps", "nodes", "namespaces", "*"] {
                let allowed = may(verb, resource, namespace);
                assert!(!allowed, "{verb} {resource} in {namespace:?}");
            }
        }
        for (verb, resource) in [("create", "pods"), ("delete", "pods"), ("get", "pods")] {
            assert!(!may(verb, resource, namespace), "{verb} {resource}");
        }
    }
}

#[test]
fn an_operator_with_rights_in_one_namespace_serves_that_namespace_only() {
    let namespace = Namespace::in_phase("narrow", Phase::Narrow);
    // The operator of all namespaces would serve this one, too.
    let _stopped = OperatorStopped::new(&namespace);
    let other = namespace.another("narrow-other");
    let _release = Release::install(&namespace);
    let api = Api::new(&namespace);
    api.apply_queue(other.name(), "my-bot", &json!({})).unwrap();
    every_request(&api, &namespace);

    let log = [
        "logs",
        "--selector=app.kubernetes.io/instance=gwq-e2e-narrow",
        "--tail=-1",
    ];
    let log = namespace.kubectl(&log).unwrap();
    // At this level the operator logs every refusal.
    assert!(log.contains("DEBUG"), "{log}");
    assert_none_forbidden(&log);
    let untouched = api.get(QUEUE, other.name(), "my-bot").unwrap();
    assert_eq!(untouched["status"], Value::Null);
    let children = Children::of(&api, other.name());
    assert_eq!(children.named("my-bot").count(), 0);
    let account = format!("{}:{NARROW}-gateway-queue-operator", namespace.name());
    let may = |verb, resource, namespace: &str| may(&api, &account, verb, resource, namespace);
    assert!(may("patch", "services", namespace.name()));
    for elsewhere in ["", "default", other.name()] {
        assert!(
            !may("list", "services", elsewhere) && !may("watch", "pods", elsewhere),
            "{elsewhere:?}"
        );
    }
    assert!(!may("list", "secrets", namespace.name()));
}

/// Causes every kind of request that the operator makes, in one namespace.
fn every_request(api: &Api, namespace: &Namespace) {
    let name = namespace.name();
    let reports = |queue: &str, reason: &str| {
        settle(PATIENCE, || {
            let object = api.get(QUEUE, name, queue).unwrap();
            let [_, found, message] = condition(&object, "Ready");
            (found != reason).then(|| format!("{queue} is {found}, not {reason}: {message}"))
        });
    };
    let budget = |exists: bool| {
        settle(PATIENCE, || {
            let found = api.get(BUDGET, name, "my-bot").is_some();
            (found != exists).then(|| format!("a PodDisruptionBudget exists: {found}"))
        });
    };
    let apply = |queue: &str, spec: Value| api.apply_queue(name, queue, &spec).unwrap();
    let with = |secret: &str| json!({"replicas": 0, "discordApi": discord_api(), "tokenSecretRef": {"name": secret}});
    // Created long before the other one of its token: ages are in whole seconds.
    apply("older", with("shared"));
    apply("my-bot", json!({}));
    reports("my-bot", "Granting");
    apply("my-bot", json!({"replicas": 2, "port": 80}));
    budget(true);
    reports("my-bot", "Granting");
    apply("my-bot", json!({"replicas": 1, "port": 80}));
    budget(false);
    // Reverted and recreated.
    let patch = json!({"spec": {"type": "NodePort"}});
    api.merge(SERVICE, name, "my-bot", &patch).unwrap();
    settle(PATIENCE, || {
        let service = api.get(SERVICE, name, "my-bot").unwrap();
        let found = &service["spec"]["type"];
        (*found != "ClusterIP").then(|| format!("the Service is a {found}"))
    });
    api.delete(SERVICE, name, "my-bot").unwrap();
    settle(PATIENCE, || {
        let service = api.get(SERVICE, name, "my-bot");
        service.is_none().then(|| "no Service".to_owned())
    });
    // A name of a foreign object.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken"},
        "spec": {"ports": [{"port": 1}]},
    });
    api.create(SERVICE, name, &service).unwrap();
    apply("taken", json!({"replicas": 0}));
    reports("taken", "NameTaken");
    // Two with one token: the younger loses its Lease.
    apply("younger", with("own"));
    reports("younger", "ScaledToZero");
    apply("younger", with("shared"));
    reports("younger", "TokenShared");
    settle(PATIENCE, || {
        let lease = api.get(LEASE, name, "younger");
        lease.map(|lease| format!("{lease:#}"))
    });
    let events = api.read(&format!("/apis/events.k8s.io/v1/namespaces/{name}/events"));
    let events = events.unwrap().to_string();
    for reason in ["Granting", "ChildReverted", "NameTaken", "TokenShared"] {
        assert!(events.contains(reason), "no event has {reason}: {events}");
    }
    for queue in ["my-bot", "taken", "older", "younger"] {
        api.delete(QUEUE, name, queue).unwrap();
    }
    settle(PATIENCE, || {
        let children = Children::of(api, name);
        let queues = ["my-bot", "older", "younger"].into_iter();
        let left = queues.flat_map(|queue| children.named(queue));
        let left = left.map(|(kind, child)| format!("{kind} {}", child["metadata"]["name"]));
        left.collect::<Vec<_>>()
    });
}

fn assert_none_forbidden(log: &str) {
    let lines: Vec<_> = log
        .lines()
        .filter(|line| FORBIDDEN.iter().all(|word| line.contains(word)))
        .filter(|line| {
            !time(line).is_some_and(|at| at < run_started() || api_server_was_starting(at))
        })
        .collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// The time of a log line.
fn time(line: &str) -> Option<Timestamp> {
    line.split(' ').next()?.parse().ok()
}

/// The start of the operator that serves all namespaces.
fn operator_started(api: &Api) -> Timestamp {
    let pods = api.list(POD, OPERATOR.0);
    let started = pods.iter().filter_map(|pod| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        state["running"]["startedAt"].as_str()?.parse().ok()
    });
    started.max().expect("no operator is running")
}

/// Whether a ServiceAccount, `NAMESPACE:NAME`, has a right in a namespace, or in all namespaces if
/// it is empty.
fn may(api: &Api, account: &str, verb: &str, resource: &str, namespace: &str) -> bool {
    let (of, _) = account.split_once(':').unwrap();
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{account}"),
            "groups": [
                "system:serviceaccounts", format!("system:serviceaccounts:{of}"),
                "system:authenticated",
            ],
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource},
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = api.post(path, &review).unwrap();
    answer["status"]["allowed"].as_bool().unwrap()
}

/// The operator of all namespaces, scaled to zero until this is dropped.
struct OperatorStopped<'a> {
    namespace: &'a Namespace,
    replicas: String,
}

impl<'a> OperatorStopped<'a> {
    fn new(namespace: &'a Namespace) -> Self {
        let get = ["get", "deployment", OPERATOR.1, "--namespace", OPERATOR.0];
        let path = "--output=jsonpath={.spec.replicas}";
        let replicas = namespace.kubectl(&[&get[..], &[path]].concat()).unwrap();
        let stopped = Self {
            namespace,
            replicas,
        };
        stopped.scale("0").unwrap();
        let gone = [
            "wait",
            "--for=delete",
            "pod",
            "--namespace",
            OPERATOR.0,
            "--timeout=60s",
        ];
        let own = format!("--selector=app.kubernetes.io/instance={}", OPERATOR.1);
        namespace.kubectl(&[&gone[..], &[&own]].concat()).unwrap();
        stopped
    }

    fn scale(&self, replicas: &str) -> Result<String, String> {
        let replicas = format!("--replicas={replicas}");
        let scale = ["scale", "deployment", OPERATOR.1, "--namespace", OPERATOR.0];
        self.namespace.kubectl(&[&scale[..], &[&replicas]].concat())
    }
}

impl Drop for OperatorStopped<'_> {
    fn drop(&mut self) {
        let deployment = format!("deployment/{}", OPERATOR.1);
        let status = ["rollout", "status", &deployment, "--namespace", OPERATOR.0];
        let back = self.scale(&self.replicas).and_then(|_| {
            self.namespace
                .kubectl(&[&status[..], &["--timeout=90s"]].concat())
        });
        // A panic while a test fails would abort the process.
        if let Err(error) = back {
            eprintln!("cannot restart the operator: {error}");
        }
    }
}

/// A second release of the chart, with the images of the first.
struct Release<'a>(&'a Namespace);

impl<'a> Release<'a> {
    fn install(namespace: &'a Namespace) -> Self {
        let values = ["get", "values", OPERATOR.1, "--output=json"];
        let values = helm(OPERATOR.0, &values).unwrap();
        let mut values: Value = serde_json::from_str(&values).unwrap();
        // The first release installed it.
        values["crds"] = json!({"enabled": false});
        values["watchNamespaces"] = json!([namespace.name()]);
        values["logLevel"] = json!("debug");
        let file = std::env::temp_dir().join(format!("{NARROW}-{}.json", std::process::id()));
        fs::write(&file, values.to_string()).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let chart = root.join("charts/gateway-queue-operator");
        let (chart, values) = (chart.display().to_string(), file.display().to_string());
        let release = Self(namespace);
        let install = [
            "install",
            NARROW,
            &chart,
            "--values",
            &values,
            "--wait",
            "--timeout=90s",
        ];
        let installed = helm(namespace.name(), &install);
        fs::remove_file(&file).unwrap();
        installed.unwrap();
        release
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        // Its roles are deleted with its namespace.
        let _ = helm(self.0.name(), &["uninstall", NARROW, "--ignore-not-found"]);
    }
}

fn helm(namespace: &str, arguments: &[&str]) -> Result<String, String> {
    let mut helm = Command::new(variable("HELM"));
    let output = helm
        .args(["--namespace", namespace])
        .args(arguments)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}
