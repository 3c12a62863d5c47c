//! The leader reaches its clients, and not the API server.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, tell};

use super::node::Cut;
use super::pair::Pair;
use super::process::Process;
use super::{FAULT, back_within, no_connection_closed, none_too_early, print};
use crate::kubectl::Namespace;

#[test]
fn a_leader_that_is_cut_off_grants_nothing_beside_its_successor() {
    let namespace = Namespace::new("cut");
    let Pair {
        queue,
        leader,
        other,
        crowd,
    } = Pair::with_clients_on_both(&namespace);
    let fault = crowd.now();
    let cut = Cut::off(&namespace, Process::of(&leader));
    std::thread::sleep(FAULT);
    let successor = queue.leader();
    let taken = crowd.moment(queue.taken()).saturating_sub(fault);
    drop(cut);
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    let more = format!(", a new leader {:.1} s after the cut", taken.as_secs_f64());
    print("4 leader cut from the API server for 40 s", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.place == "other"));
    assert_eq!(successor, other, "{}", tell(&waits));
    assert!(figures.silence <= back_within(), "{}", tell(&waits));
}
