//! Two GatewayQueues with one token.
//!
//! Tests start in the order of their names. This one mostly waits, and for longer than most:
//! it starts among the first, so that the others run beside it.

use serde_json::json;

use crate::api::{POD, QUEUE};
use crate::children::{Children, settle};
use crate::kubectl::discord_api;
use crate::trouble::{PATIENCE, Place};

#[test]
fn of_two_with_one_token_the_younger_stands_down_and_takes_over_when_the_older_goes() {
    let place = Place::new("one-token");
    let name = place.namespace.name();
    place.namespace.create_secret("shared");
    let spec = json!({"tokenSecretRef": {"name": "shared"}, "discordApi": discord_api()});
    place.apply("older", &spec);
    place.says("older", "Granting", &[]);
    place.apply("younger", &spec);
    place.says(
        "younger",
        "TokenShared",
        &["GatewayQueue older is older", "Secret shared"],
    );
    let deployments = Children::of(&place.api, name);
    let younger = deployments.get("Deployment", "younger").unwrap();
    assert_eq!(younger["spec"]["replicas"], 0);
    assert_eq!(place.ready("older").0, "Granting");
    place.api.delete(QUEUE, name, "older").unwrap();
    // The garbage collector takes its time while other tests delete theirs.
    settle(PATIENCE * 3, || {
        let pods = place.api.list(POD, name);
        let left = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "older");
        left.map(|pod| format!("{} is still there", pod["metadata"]["name"]))
            .collect()
    });
    place.says("younger", "Granting", &[]);
    place.no_flood("younger");
}
