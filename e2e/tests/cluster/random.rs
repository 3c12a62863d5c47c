//! Random edits of GatewayQueues and of their children, by a hand that knows no
//! rules. Afterwards all is as if it had been applied a moment ago.
//!
//! The seed is printed; with SEED set, the same edits are made again (what the
//! operator does between them is its own).

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::api::{
    ACCOUNT, Api, BINDING, BUDGET, CHILDREN, DEPLOYMENT, Kind, LEASE, POLICY, ROLE, Refusal,
    SERVICE,
};
use crate::children::{Children, differences, settle};
use crate::kubectl::{Namespace, say};

const EDITS: usize = 200;

/// A child that is changed over and over is put back later and later, so the
/// edits are spread over several.
const QUEUES: usize = 10;

/// A repair waits for 16 s after the sixth in a row; more there cannot be in the
/// time that the edits take.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn after_two_hundred_random_edits_all_is_as_if_freshly_applied() {
    let namespace = Namespace::alone("random");
    let api = Api::new(&namespace);
    let seed = std::env::var("SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    say(&format!("random edits: SEED={seed}"));
    let mut hand = Hand {
        api: &api,
        namespace: namespace.name(),
        random: Rng::with_seed(seed),
        specs: (0..QUEUES).map(|_| json!({})).collect(),
    };
    for queue in 0..QUEUES {
        hand.change_spec(queue).unwrap();
    }
    settle(PATIENCE, || hand.absent("edited"));

    let (mut made, mut log) = (0, Vec::new());
    while made < EDITS {
        let queue = hand.random.usize(..QUEUES);
        let (edit, result) = hand.edit(queue);
        // What is on its way out, or another edit has made wrong, is refused.
        made += usize::from(result.is_ok());
        log.push(format!("edited-{queue}: {edit}: {}", told(&result)));
        // Edits fall into each moment of a repair.
        thread::sleep(Duration::from_millis(hand.random.u64(..60)));
    }
    let started = Instant::now();
    for (queue, spec) in hand.specs.iter().enumerate() {
        let name = format!("fresh-{queue}");
        api.apply_queue(hand.namespace, &name, &named(spec, &name))
            .unwrap();
    }
    settle(PATIENCE, || hand.absent("fresh"));
    let converged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        settle(PATIENCE, || {
            let children = Children::of(&api, hand.namespace);
            let compare = |queue: usize| {
                let found = children.owned(&format!("edited-{queue}"));
                let wanted = children.owned(&format!("fresh-{queue}"));
                differences(&format!("edited-{queue}"), &found, &wanted)
            };
            (0..QUEUES).flat_map(compare).collect()
        })
    }));
    if let Err(panic) = converged {
        println!("the edits were:\n{}", log.join("\n"));
        std::panic::resume_unwind(panic);
    }
    let took = started.elapsed().as_secs_f64();
    let refused = log.len() - made;
    say(&format!(
        "random edits: {made} made, {refused} refused, converged {took:.1} s after the last"
    ));
}

fn told(result: &Result<(), Refusal>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(refusal) => format!("{} {}", refusal.code, refusal.message),
    }
}

/// With a Secret of the queue's own: two of one token would not both run.
fn named(spec: &Value, name: &str) -> Value {
    let mut spec = spec.clone();
    if let Some(token) = spec.get_mut("tokenSecretRef") {
        token["name"] = name.into();
    }
    spec
}

struct Hand<'a> {
    api: &'a Api,
    namespace: &'a str,
    random: Rng,
    /// The spec of each queue, as last applied.
    specs: Vec<Value>,
}

impl Hand<'_> {
    /// The queues of which a child is missing.
    fn absent(&self, prefix: &str) -> Vec<String> {
        let children = Children::of(self.api, self.namespace);
        let lacks = |queue: usize| {
            let name = format!("{prefix}-{queue}");
            let spec = &self.specs[queue];
            let budget = spec["replicas"].as_u64() > Some(1);
            let policy = spec["networkPolicy"]["enabled"] == true;
            let wanted = 6 + usize::from(budget) + usize::from(policy);
            let found = children.named(&name).count();
            (found != wanted).then(|| format!("{name} has {found} children, not {wanted}"))
        };
        (0..self.specs.len()).filter_map(lacks).collect()
    }

    fn change_spec(&mut self, queue: usize) -> Result<(), Refusal> {
        let spec = spec(&mut self.random);
        let name = format!("edited-{queue}");
        self.api
            .apply_queue(self.namespace, &name, &named(&spec, &name))?;
        self.specs[queue] = spec;
        Ok(())
    }

    /// Makes one edit, and says which.
    fn edit(&mut self, queue: usize) -> (String, Result<(), Refusal>) {
        if self.random.u8(..5) == 0 {
            return ("another spec".to_owned(), self.change_spec(queue));
        }
        let name = format!("edited-{queue}");
        let random = &mut self.random;
        let any = CHILDREN[random.usize(..CHILDREN.len())];
        match random.u8(..6) {
            0 => {
                let deleted = self.api.delete(any, self.namespace, &name);
                (format!("delete the {}", any.word), deleted.map(drop))
            }
            1 => {
                let patch = json!({ "metadata": metadata(random) });
                let merged = self.api.merge(any, self.namespace, &name, &patch);
                (format!("{}: {patch}", any.word), merged.map(drop))
            }
            _ => {
                let (kind, patch) = inside(random);
                let patched = self.api.patch(kind, self.namespace, &name, &patch);
                (format!("{}: {patch}", kind.word), patched.map(drop))
            }
        }
    }
}

/// A valid spec whose pods no node takes.
fn spec(random: &mut Rng) -> Value {
    let mut spec = json!({
        "replicas": random.u8(..4),
        "pod": {"nodeSelector": {"nowhere": "true"}},
    });
    let mut maybe = |field: &str, values: &[Value]| {
        if random.bool() {
            let mut place = &mut spec;
            for step in field.split('.') {
                place = &mut place[step];
            }
            *place = values[random.usize(..values.len())].clone();
        }
    };
    maybe("port", &[json!(80), json!(6000)]);
    maybe("host", &[json!("::"), json!("0.0.0.0")]);
    maybe("interval", &[json!("6s"), json!("5500ms")]);
    maybe("sessionReserve", &[json!(0), json!(9)]);
    maybe("networkPolicy.enabled", &[json!(true), json!(false)]);
    maybe("image", &[json!("a:1"), json!("b:2")]);
    maybe("logLevel", &[json!("debug"), json!("warn")]);
    maybe("service.type", &[json!("NodePort"), json!("ClusterIP")]);
    maybe("service.port", &[json!(80), json!(8080)]);
    maybe(
        "service.labels",
        &[json!({"team": "a"}), json!({"crew": "b"})],
    );
    maybe(
        "service.annotations",
        &[json!({"a": "1"}), json!({"b": "2"})],
    );
    maybe("pod.labels", &[json!({"team": "a"}), json!({"crew": "b"})]);
    maybe("pod.annotations", &[json!({"a": "1"}), json!({"b": "2"})]);
    maybe(
        "pod.resources",
        &[json!({"requests": {"cpu": "1000m"}}), json!({})],
    );
    maybe("pod.terminationGracePeriodSeconds", &[json!(0), json!(90)]);
    maybe("tokenSecretRef.key", &[json!("token"), json!("bot")]);
    if spec["tokenSecretRef"].is_null() {
        spec["maxConcurrency"] = random.u16(1..99).into();
    }
    spec
}

/// An edit of labels and annotations, of those that are the operator's and others.
fn metadata(random: &mut Rng) -> Value {
    let edits = [
        json!({"labels": {"app.kubernetes.io/instance": "other"}}),
        json!({"labels": {"app.kubernetes.io/managed-by": null}}),
        json!({"labels": {"app.kubernetes.io/managed-by": "helm", "theirs": "x"}}),
        json!({"labels": {"app.kubernetes.io/name": null, "team": "theirs"}}),
        json!({"labels": {"gatewayqueue.dev/name": null}}),
        json!({"labels": {"gatewayqueue.dev/name": "other"}}),
        json!({"annotations": {"gatewayqueue.dev/applied-hash": "0"}}),
        json!({"annotations": {"gatewayqueue.dev/applied-hash": null, "a": "theirs"}}),
        json!({"annotations": {"theirs": "x"}}),
    ];
    edits[random.usize(..edits.len())].clone()
}

/// An edit of what a child is for.
fn inside(random: &mut Rng) -> (Kind, Value) {
    let container = "/spec/template/spec/containers/0";
    let pod = "/spec/template/spec";
    let edits: Vec<(Kind, &str, String, Value)> = vec![
        (
            DEPLOYMENT,
            "replace",
            format!("{container}/env/1/value"),
            json!("1"),
        ),
        (
            DEPLOYMENT,
            "replace",
            format!("{container}/env/0/name"),
            json!("OTHER"),
        ),
        (
            DEPLOYMENT,
            "remove",
            format!("{container}/env/3"),
            Value::Null,
        ),
        (
            DEPLOYMENT,
            "add",
            format!("{container}/env/-"),
            json!({"name": "THEIRS", "value": "x"}),
        ),
        (
            DEPLOYMENT,
            "replace",
            format!("{container}/image"),
            json!("theirs:1"),
        ),
        (
            DEPLOYMENT,
            "replace",
            format!("{container}/ports/0/containerPort"),
            json!(7),
        ),
        (
            DEPLOYMENT,
            "remove",
            format!("{container}/ports/2"),
            Value::Null,
        ),
        (
            DEPLOYMENT,
            "remove",
            format!("{container}/securityContext"),
            Value::Null,
        ),
        (
            DEPLOYMENT,
            "remove",
            format!("{container}/livenessProbe"),
            Value::Null,
        ),
        (
            DEPLOYMENT,
            "replace",
            format!("{pod}/terminationGracePeriodSeconds"),
            json!(1),
        ),
        (DEPLOYMENT, "remove", format!("{pod}/affinity"), Value::Null),
        (
            DEPLOYMENT,
            "replace",
            "/spec/replicas".to_owned(),
            json!(random.u8(..4)),
        ),
        (
            DEPLOYMENT,
            "replace",
            "/spec/strategy".to_owned(),
            json!({"type": "Recreate"}),
        ),
        (
            SERVICE,
            "replace",
            "/spec/ports/0/port".to_owned(),
            json!(81),
        ),
        (
            SERVICE,
            "replace",
            "/spec/ports/0/name".to_owned(),
            json!("theirs"),
        ),
        (
            SERVICE,
            "add",
            "/spec/ports/-".to_owned(),
            json!({"name": "theirs", "port": 9999}),
        ),
        (
            SERVICE,
            "replace",
            "/spec/type".to_owned(),
            json!("NodePort"),
        ),
        (
            SERVICE,
            "replace",
            "/spec/selector".to_owned(),
            json!({"app": "theirs"}),
        ),
        (ROLE, "replace", "/rules/0/verbs".to_owned(), json!(["get"])),
        (ROLE, "replace", "/rules".to_owned(), json!([])),
        (
            BINDING,
            "replace",
            "/subjects/0/name".to_owned(),
            json!("theirs"),
        ),
        (BINDING, "remove", "/subjects".to_owned(), Value::Null),
        (
            BUDGET,
            "replace",
            "/spec/maxUnavailable".to_owned(),
            json!("50%"),
        ),
        (
            BUDGET,
            "remove",
            "/spec/selector/matchLabels".to_owned(),
            Value::Null,
        ),
        (POLICY, "replace", "/spec/ingress".to_owned(), json!([])),
        (
            POLICY,
            "replace",
            "/spec/ingress/0/ports/0/port".to_owned(),
            json!(7),
        ),
        (
            ACCOUNT,
            "replace",
            "/metadata/ownerReferences/0/controller".to_owned(),
            json!(false),
        ),
        (
            LEASE,
            "replace",
            "/metadata/ownerReferences/0/name".to_owned(),
            json!("theirs"),
        ),
    ];
    let (kind, operation, path, value) = edits[random.usize(..edits.len())].clone();
    let mut step = json!({"op": operation, "path": path});
    if !value.is_null() {
        step["value"] = value;
    }
    (kind, json!([step]))
}
