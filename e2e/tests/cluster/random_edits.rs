//! Random edits of GatewayQueues and of their children. Afterwards everything is as if it had
//! just been applied.
//!
//! The seed is printed. With SEED set, the same edits are made again; what the operator does
//! between them may differ.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, CHILDREN, Response};
use crate::children::{Children, differences};
use crate::kubectl::{Namespace, say, seed};
use crate::schedule::Phase;
use crate::wait::settle;

const EDITS: usize = 200;

/// A child that is changed repeatedly is reverted at growing intervals, so the edits are spread
/// over several GatewayQueues.
const QUEUES: usize = 10;

/// A revert waits for 16 s after the sixth in a row; the edits do not last long enough for more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `tables/edits.json` holds.
#[derive(Deserialize)]
struct Edits {
    /// Fields of a spec, each with two values.
    spec: Vec<(String, Value, Value)>,
    /// Merge patches of metadata, of the operator's own keys and of others.
    metadata: Vec<Value>,
    /// JSON patches: the kind, the operation, the path and the value.
    patches: Vec<(String, String, String, Value)>,
}

#[test]
fn after_two_hundred_random_edits_everything_is_as_if_freshly_applied() {
    let namespace = Namespace::in_phase("random", Phase::Busy);
    let api = Api::new();
    let mut editor = Editor {
        api: &api,
        namespace: namespace.name(),
        random: Rng::with_seed(seed()),
        edits: serde_json::from_str(include_str!("tables/edits.json")).unwrap(),
        specs: (0..QUEUES).map(|_| json!({})).collect(),
    };
    for queue in 0..QUEUES {
        editor.change_spec(queue).unwrap();
    }
    settle(PATIENCE, || editor.incomplete("edited"));

    let (mut made, mut log) = (0, Vec::new());
    while made < EDITS {
        let queue = editor.random.usize(..QUEUES);
        let (edit, result) = editor.edit(queue);
        // An edit of a missing child, or of a part that another edit removed, is refused.
        made += usize::from(result.is_ok());
        log.push(format!("edited-{queue}: {edit}: {:?}", result.err()));
        // Edits arrive at any moment of a revert.
        thread::sleep(Duration::from_millis(editor.random.u64(..60)));
    }
    let started = Instant::now();
    for (queue, spec) in editor.specs.iter().enumerate() {
        let name = format!("fresh-{queue}");
        let spec = with_own_secret(spec, &name);
        api.apply_queue(editor.namespace, &name, &spec).unwrap();
    }
    settle(PATIENCE, || editor.incomplete("fresh"));
    let converged = catch_unwind(AssertUnwindSafe(|| {
        settle(PATIENCE, || {
            let children = Children::of(&api, editor.namespace);
            let compare = |queue: usize| {
                let found = children.owned(&format!("edited-{queue}"));
                let wanted = children.owned(&format!("fresh-{queue}"));
                differences(&format!("edited-{queue}"), &found, &wanted)
            };
            (0..QUEUES).flat_map(compare).collect::<Vec<_>>()
        })
    }));
    if let Err(panic) = converged {
        println!("the edits were:\n{}", log.join("\n"));
        resume_unwind(panic);
    }
    say(&format!(
        "random edits: {made} made, {} refused, converged {:.1} s after the last",
        log.len() - made,
        started.elapsed().as_secs_f64(),
    ));
}

/// Names a Secret of the queue's own: two queues of one token would not both run.
fn with_own_secret(spec: &Value, name: &str) -> Value {
    let mut spec = spec.clone();
    if let Some(token) = spec.get_mut("tokenSecretRef") {
        token["name"] = name.into();
    }
    spec
}

struct Editor<'a> {
    api: &'a Api,
    namespace: &'a str,
    random: Rng,
    edits: Edits,
    /// The last spec of each queue.
    specs: Vec<Value>,
}

impl Editor<'_> {
    /// The queues without all of their children.
    fn incomplete(&self, prefix: &str) -> Vec<String> {
        let children = Children::of(self.api, self.namespace);
        let lacks = |(queue, spec): (usize, &Value)| {
            let name = format!("{prefix}-{queue}");
            let budget = spec["replicas"].as_u64() > Some(1);
            let policy = spec["networkPolicy"]["enabled"] == true;
            let wanted = 6 + usize::from(budget) + usize::from(policy);
            let found = children.named(&name).count();
            (found != wanted).then(|| format!("{name} has {found} children, not {wanted}"))
        };
        self.specs.iter().enumerate().filter_map(lacks).collect()
    }

    fn change_spec(&mut self, queue: usize) -> Response {
        let spec = self.spec();
        let name = format!("edited-{queue}");
        let own = with_own_secret(&spec, &name);
        let applied = self.api.apply_queue(self.namespace, &name, &own)?;
        self.specs[queue] = spec;
        Ok(applied)
    }

    /// Makes one edit, and describes it.
    fn edit(&mut self, queue: usize) -> (String, Response) {
        if self.random.u8(..5) == 0 {
            return ("another spec".to_owned(), self.change_spec(queue));
        }
        let (api, namespace, name) = (self.api, self.namespace, format!("edited-{queue}"));
        let random = &mut self.random;
        let any = CHILDREN[random.usize(..CHILDREN.len())];
        let (kind, patch) = match random.u8(..6) {
            0 => {
                let edit = format!("delete the {}", any.word);
                return (edit, api.delete(any, namespace, &any.child_of(&name)));
            }
            1 => {
                let metadata = random.choice(&self.edits.metadata).unwrap();
                (any, json!({"metadata": metadata}))
            }
            _ => {
                let (word, operation, path, value) = random.choice(&self.edits.patches).unwrap();
                let kind = CHILDREN.into_iter().find(|kind| kind.word == *word);
                let mut step = json!({"op": operation, "path": path});
                if operation != "remove" {
                    step["value"] = value.clone();
                }
                (kind.unwrap(), json!([step]))
            }
        };
        let edit = format!("{}: {patch}", kind.word);
        (
            edit,
            api.patch(kind, namespace, &kind.child_of(&name), &patch),
        )
    }

    /// A random spec whose pods fit on no node.
    fn spec(&mut self) -> Value {
        let random = &mut self.random;
        let mut spec = json!({
            "replicas": random.u8(..4),
            "pod": {"nodeSelector": {"nowhere": "true"}},
        });
        for (field, one, other) in &self.edits.spec {
            if random.bool() {
                let value = if random.bool() { one } else { other };
                let steps = field.split('.');
                *steps.fold(&mut spec, |place, step| &mut place[step]) = value.clone();
            }
        }
        if spec["tokenSecretRef"].is_null() {
            spec["maxConcurrency"] = random.u16(1..99).into();
        }
        spec
    }
}
