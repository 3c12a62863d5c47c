//! Clients of an agent while the queue is rolled out twice.

use std::time::Duration;

use gateway_queue_e2e::waits::Figures;
use serde_json::json;

use super::NO_SLOT_LOST;
use super::clients::{Clients, Grants, Target};
use super::queue::Queue;
use crate::api::is_ready;
use crate::kubectl::{Namespace, shards_image};
use crate::schedule::{ChangesPods, Phase};
use crate::wait::wait_for;

/// The port of the agent in the example.
const AGENT_PORT: u16 = 5000;

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn clients_of_agents_do_not_notice_two_rollouts() {
    const BUCKETS: u32 = 4;
    let namespace = Namespace::in_phase("agent", Phase::Timing);
    let pods = ChangesPods::wait();
    let queue = Queue::without_token(&namespace, 1, BUCKETS);
    let agents = start_agents(&namespace, 2);
    drop(pods);
    let clients = Clients::new(BUCKETS, queue.service());
    for shard in 0..4 * BUCKETS {
        let agent = &agents[usize::try_from(shard / BUCKETS).unwrap() % agents.len()];
        clients.start(shard, agent, Grants::Many);
    }
    clients.wait_for_grants(4);
    for level in ["debug", "info"] {
        let pods = ChangesPods::wait();
        let before = queue.leader();
        queue.patch(&json!({"logLevel": level}));
        queue.wait_for_another_leader(&before);
        drop(pods);
        clients.wait_for_grants(8);
    }
    let outcome = clients.finish(Duration::from_secs(60));
    outcome.print_none_too_early("agents, two rollouts", "");
    outcome.no_connection_closed(None);
    let Figures { longest_gap, .. } = outcome.figures;
    assert!(longest_gap <= NO_SLOT_LOST, "{}", outcome.list());
}

/// Applies the example with the images of this run, and returns the agents. A process that only
/// runs stands in for the bot: the clients of this test are its shards.
fn start_agents(namespace: &Namespace, count: usize) -> Vec<Target> {
    let example = include_str!("../../../../examples/agent.yaml");
    let queue_image = namespace.field(
        "deployment/my-bot-queue",
        ".spec.template.spec.containers[0].image",
    );
    let upstream = format!("http://my-bot.{}.svc", namespace.name());
    let (agent, bot) = ("gateway-queue:TAG", "my-bot:TAG");
    let registry = "registry.example.com/discord/";
    let manifest = [
        (format!("{registry}{agent}"), queue_image),
        (format!("{registry}{bot}"), shards_image()),
        ("http://my-bot.bots.svc".to_owned(), upstream),
        (
            "- name: bot\n".to_owned(),
            "- name: bot\n          command: [/fake-discord]\n".to_owned(),
        ),
        (
            "value: http://127.0.0.1:5000\n".to_owned(),
            "value: x\n            - name: DISCORD_TOKEN\n              value: x\n".to_owned(),
        ),
        ("  name: my-bot\n".to_owned(), "  name: bot\n".to_owned()),
        (
            "  selector:\n".to_owned(),
            format!("  replicas: {count}\n  selector:\n"),
        ),
    ]
    .into_iter()
    .fold(example.to_owned(), |manifest, (from, to)| {
        assert!(manifest.contains(&from), "no {from} in the example");
        manifest.replacen(&from, &to, 1)
    });
    namespace.apply(&manifest).unwrap();
    let pods = wait_for("the agents", PATIENCE, || {
        let pods = namespace.get("pods --selector=app=my-bot");
        let pods = pods["items"].as_array()?.clone();
        (pods.len() == count && pods.iter().all(is_ready)).then_some(pods)
    });
    pods.iter()
        .map(|pod| Target {
            name: "agent",
            address: format!("{}:{AGENT_PORT}", pod["status"]["podIP"].as_str().unwrap())
                .parse()
                .unwrap(),
        })
        .collect()
}
