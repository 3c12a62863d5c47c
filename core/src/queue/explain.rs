//! Why nothing is granted, in a sentence that a person can act on.

use crate::leadership::state::Role;
use crate::lease_state::BlockedBy;
use crate::queue::snapshot::{About, Snapshot};

/// The sentence; none when turns are granted, here or by the leader that this
/// process asks. It holds no number that goes down by itself: who reads it aloud
/// would never come to an end.
pub fn why(snapshot: &Snapshot, about: &About) -> Option<String> {
    match snapshot.role {
        Role::Leader => blocked_by(snapshot, about),
        Role::Expired => Some(
            "This pod holds the Lease and cannot renew it, so it grants nothing: another may lead \
             by now. Look whether it reaches the API server; its log says what fails."
                .to_owned(),
        ),
        Role::Follower if !snapshot.leader_health.is_ready() => {
            let pod = snapshot.leader_pod.as_deref().unwrap_or("in another pod");
            let address = snapshot.leader.map_or_else(String::new, |at| format!(" at {at}"));
            Some(format!(
                "The leader, {pod}, renews its Lease and does not answer this pod{address}. This pod is unready, so \
                 that clients go to the leader. Allow the queue's pods to reach each other on the leader's peer \
                 port: look at NetworkPolicies and at the service mesh."
            ))
        }
        Role::Follower if snapshot.leader_silent => {
            let pod = snapshot.leader_pod.as_deref().unwrap_or("in another pod");
            Some(format!(
                "The leader, {pod}, does not answer this pod. If it is gone, another pod leads when \
                 its Lease has run out; if it runs, look what the network keeps from it."
            ))
        }
        Role::Follower => None,
        Role::None => Some(
            "No pod leads at this moment, or this one cannot learn which: clients are held until one \
             does. If that lasts longer than half a minute, look whether the queue's pods run and \
             reach the API server."
                .to_owned(),
        ),
    }
}

fn blocked_by(snapshot: &Snapshot, about: &About) -> Option<String> {
    // Its own sentence, as it came about.
    let last_error = snapshot.last_error.as_deref().map(sentence);
    let last_error = last_error.as_deref().unwrap_or("").trim();
    let view = snapshot.leader_view.as_ref()?;
    let why = match view.blocked_by? {
        BlockedBy::TokenMissing => {
            let remedy = match about.pod {
                Some(_) => "Create the Secret that the GatewayQueue names, with that key",
                None => "Write the bot's token into the file that DISCORD_TOKEN_FILE names",
            };
            format!("There is no token. {last_error} {remedy}; no restart is needed.")
        }
        BlockedBy::TokenRejected => {
            let place = match about.pod {
                Some(_) => "into the Secret",
                None => "where this process reads it",
            };
            format!(
                "Discord rejects the token. Put the bot's current one {place}: it is in Discord's \
                 Developer Portal, under Bot."
            )
        }
        BlockedBy::SessionStartsUnknown => format!(
            "Discord has not said how many session starts are left, and nothing is granted on a \
             guess. {last_error} Discord is asked again and again; if that does not help, look whether \
             this machine reaches it."
        ),
        BlockedBy::SessionStartsExhausted => {
            let reserve = match about.reserve {
                0 => "All session starts are used up.".to_owned(),
                n => format!("All session starts but the {n} in reserve are used up."),
            };
            let until = match view.reset_time {
                Some(time) => {
                    format!(
                        "Discord gives new ones at {}",
                        time.strftime("%Y-%m-%d %H:%M:%S UTC")
                    )
                }
                None => "Discord has not said when it gives new ones".to_owned(),
            };
            format!(
                "{reserve} {until}; then shards may identify again, with nothing for you to do."
            )
        }
    };
    // Where there was no trouble to tell.
    Some(why.replace("  ", " "))
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|c| c.to_uppercase().to_string());
    let stop = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    format!("{}{}{stop}", first.unwrap_or_default(), rest.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::leadership::leader_health::Health;
    use crate::leadership::state::Leader;
    use crate::queue::snapshot::Pod;
    use crate::testing::{about, leader, view};
    use crate::time::Moment;

    #[test]
    fn every_hold_has_a_sentence_that_says_what_to_do() {
        let mut snapshot = leader(&[1]);
        let mut about = about();
        assert_eq!(why(&snapshot, &about), None);
        for blocked_by in BlockedBy::ALL {
            view(&mut snapshot).blocked_by = Some(blocked_by);
            for last_error in [None, Some("it broke")] {
                snapshot.last_error = last_error.map(str::to_owned);
                let why = why(&snapshot, &about).unwrap();
                assert!(why.ends_with('.') && !why.contains("  "), "{why}");
                assert!(!why.contains(".."), "{why}");
                let quotes = matches!(
                    blocked_by,
                    BlockedBy::TokenMissing | BlockedBy::SessionStartsUnknown
                );
                assert_eq!(why.contains("It broke."), quotes && last_error.is_some());
            }
        }
        view(&mut snapshot).blocked_by = Some(BlockedBy::TokenMissing);
        assert!(
            why(&snapshot, &about)
                .unwrap()
                .contains("DISCORD_TOKEN_FILE")
        );
        about.pod = Some(Pod {
            namespace: "n".to_owned(),
            name: "p".to_owned(),
        });
        assert!(why(&snapshot, &about).unwrap().contains("Secret"));
    }

    #[test]
    fn used_up_session_starts_come_with_the_time_of_new_ones() {
        let mut snapshot = leader(&[1]);
        let mut about = about();
        view(&mut snapshot).blocked_by = Some(BlockedBy::SessionStartsExhausted);
        view(&mut snapshot).reset_time = Some("2026-11-25T02:00:00Z".parse().unwrap());
        let said = why(&snapshot, &about).unwrap();
        assert!(said.contains("at 2026-11-25 02:00:00 UTC"), "{said}");
        about.reserve = 20;
        let said = why(&snapshot, &about).unwrap();
        assert!(said.contains("the 20 in reserve"), "{said}");
    }

    #[test]
    fn without_a_leader_the_session_starts_are_not_the_reason() {
        let mut snapshot = leader(&[]);
        view(&mut snapshot).blocked_by = Some(BlockedBy::SessionStartsExhausted);
        for (role, word) in [(Role::None, "No pod leads"), (Role::Expired, "renew")] {
            snapshot.role = role;
            assert!(why(&snapshot, &about()).unwrap().contains(word));
        }
        snapshot.role = Role::Follower;
        assert_eq!(why(&snapshot, &about()), None);
        snapshot.leader_silent = true;
        snapshot.leader_pod = Some("other".to_owned());
        let said = why(&snapshot, &about()).unwrap();
        assert!(said.contains("other, does not answer"), "{said}");
        let address = ([10, 0, 0, 1], 9091).into();
        snapshot.leader = Some(address);
        snapshot.leader_health = Health::Unreachable {
            leader: Leader {
                holder: "other_1".to_owned(),
                address,
            },
            since: Moment::ZERO,
            lives: true,
        };
        let said = why(&snapshot, &about()).unwrap();
        assert!(said.contains("other, renews its Lease"), "{said}");
        assert!(
            said.contains("10.0.0.1:9091") && said.contains("NetworkPolicies"),
            "{said}"
        );
    }
}
