//! The operator's rights: enough for everything that it does, and no more.

use std::fs;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Api, BUDGET, LEASE, POD, QUEUE, SERVICE};
use crate::children::Children;
use crate::common::namespace::run;
use crate::faults::node::api_server_was_starting;
use crate::kubectl::{
    Namespace, OPERATOR, ScaledOperator, discord_api, operator_kubectl, run_started, say, variable,
};
use crate::reasons::Context;
use crate::schedule::Phase;
use crate::wait::{settle, wait_for};

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
    let api = Api::new();
    let log = operator_kubectl(&format!("logs deployment/{} --tail=-1", OPERATOR.1)).unwrap();
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
        for verb in ["create", "delete", "get"] {
            assert!(!may(verb, "pods", namespace), "{verb} pods");
        }
    }
}

#[test]
fn an_operator_with_rights_in_one_namespace_serves_that_namespace_only() {
    let context = Context::of(Namespace::in_phase("narrow", Phase::Narrow));
    let Context { namespace, api } = &context;
    // The operator of all namespaces would serve this one, too.
    let _stopped = ScaledOperator::to(0);
    let own = format!("--selector=app.kubernetes.io/instance={}", OPERATOR.1);
    operator_kubectl(&format!("wait --for=delete pod {own} --timeout=60s")).unwrap();
    let other = namespace.another("narrow-other");
    let _release = Release::install(namespace);
    api.apply_queue(other.name(), "my-bot", &json!({})).unwrap();
    every_request(&context);

    let log = format!("logs --selector=app.kubernetes.io/instance={NARROW} --tail=-1");
    let log = namespace.kubectl(&log).unwrap();
    // At this level the operator logs every refusal.
    assert!(log.contains("DEBUG"), "{log}");
    assert_none_forbidden(&log);
    let untouched = api.get(QUEUE, other.name(), "my-bot").unwrap();
    assert_eq!(untouched["status"], Value::Null);
    let children = Children::of(api, other.name());
    assert_eq!(children.named("my-bot").count(), 0);
    let account = format!("{}:{NARROW}-gateway-queue-operator", namespace.name());
    let may = |verb, resource, namespace: &str| may(api, &account, verb, resource, namespace);
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
fn every_request(context: &Context) {
    let (api, name) = (&context.api, context.namespace.name());
    let budget = |exists: bool| {
        settle(PATIENCE, || {
            let found = api.get(BUDGET, name, &BUDGET.child_of("my-bot")).is_some();
            (found != exists).then(|| format!("a PodDisruptionBudget exists: {found}"))
        });
    };
    let apply = |queue: &str, spec: Value| context.apply(queue, &spec);
    let with = |secret: &str| json!({"replicas": 0, "discordApi": discord_api(), "tokenSecretRef": {"name": secret}});
    // Created long before the other one of its token: ages are in whole seconds.
    apply("older", with("shared"));
    apply("my-bot", json!({}));
    context.reports("my-bot", "Granting", &[]);
    apply("my-bot", json!({"replicas": 2, "port": 80}));
    budget(true);
    context.reports("my-bot", "Granting", &[]);
    apply("my-bot", json!({"replicas": 1, "port": 80}));
    budget(false);
    // Reverted and recreated.
    let patch = json!({"spec": {"type": "NodePort"}});
    api.patch(SERVICE, name, "my-bot", &patch).unwrap();
    context.reports_by_event("my-bot", "ChildReverted");
    settle(PATIENCE, || {
        let service = api.get(SERVICE, name, "my-bot").unwrap();
        let found = &service["spec"]["type"];
        (*found != "ClusterIP").then(|| format!("the Service is a {found}"))
    });
    api.delete(SERVICE, name, "my-bot").unwrap();
    wait_for("the Service", PATIENCE, || api.get(SERVICE, name, "my-bot"));
    context.take_name("taken");
    apply("taken", json!({"replicas": 0}));
    context.reports("taken", "NameTaken", &[]);
    // Two with one token: the younger loses its Lease.
    apply("younger", with("own"));
    context.reports("younger", "ScaledToZero", &[]);
    apply("younger", with("shared"));
    context.reports("younger", "TokenShared", &[]);
    settle(PATIENCE, || {
        let lease = api.get(LEASE, name, &LEASE.child_of("younger"));
        lease.map(|lease| format!("{lease:#}"))
    });
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

/// A second release of the chart, with the images of the first.
struct Release(String);

impl Release {
    fn install(namespace: &Namespace) -> Self {
        let values = helm(
            OPERATOR.0,
            &format!("get values {} --output=json", OPERATOR.1),
        );
        let mut values: Value = serde_json::from_str(&values.unwrap()).unwrap();
        // The first release installed it.
        values["crds"] = json!({"enabled": false});
        values["watchNamespaces"] = json!([namespace.name()]);
        values["logLevel"] = json!("debug");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, values.to_string()).unwrap();
        let chart = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/gateway-queue-operator"
        );
        let release = Self(namespace.name().to_owned());
        let values = file.path().display();
        let install = format!("install {NARROW} {chart} --values {values} --wait --timeout=90s");
        helm(namespace.name(), &install).unwrap();
        release
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // Its roles are deleted with its namespace.
        let _ = helm(&self.0, &format!("uninstall {NARROW} --ignore-not-found"));
    }
}

fn helm(namespace: &str, arguments: &str) -> Result<String, String> {
    let mut helm = Command::new(variable("HELM"));
    helm.args(["--namespace", namespace]);
    run(helm.args(arguments.split_whitespace()), "")
}
