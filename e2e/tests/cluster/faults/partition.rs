//! The leader reaches its clients, but not the API server.

use std::thread;
use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, list};

use super::node::Partition;
use super::pair::Pair;
use super::process::Process;
use super::{FAULT, back_within, no_connection_closed, none_too_early, print};
use crate::kubectl::Namespace;
use crate::schedule::Phase;

#[test]
fn a_partitioned_leader_does_not_grant_beside_its_successor() {
    let namespace = Namespace::in_phase("partition", Phase::Long);
    let Pair {
        queue,
        leader,
        other,
        clients,
    } = Pair::with_clients_on_both(&namespace);
    let fault = clients.now();
    let partition = Partition::from_api_server(&namespace, Process::of(&leader));
    thread::sleep(FAULT);
    let successor = queue.leader();
    let acquired = clients.time_of(queue.acquired()).saturating_sub(fault);
    drop(partition);
    let waits = clients.finish(Duration::from_secs(60));

    let figures = Figures::of(&waits, clients.now());
    let more = format!(", a new leader after {:.1} s", acquired.as_secs_f64());
    print("leader without API server for 40 s", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.target == "other"));
    assert_eq!(successor, other, "{}", list(&waits));
    assert!(figures.silence <= back_within(), "{}", list(&waits));
}
