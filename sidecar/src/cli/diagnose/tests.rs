use gateway_queue_core::bot_token::BotToken;
use serde_json::json;

use super::super::color::Paint;
use super::super::remote_state::tests::leader_with;
use super::super::report::{exit_code, text};
use super::*;

fn now() -> Timestamp {
    "2026-11-24T22:48:00Z".parse().unwrap()
}

type Fetched = Result<Outcome, (Subject, String)>;

fn report(api: &str, fetched: &Fetched) -> (u8, String) {
    let findings = discord(&Url::parse(api).unwrap(), None, fetched, 10, now());
    (exit_code(&findings), text(&findings, Paint::None))
}

fn limits(remaining: u64) -> Fetched {
    Ok(Outcome::Limits(Limits {
        url: None,
        shards: 3,
        total: 1000,
        remaining,
        reset_after: Duration::from_secs(11_520),
        max_concurrency: Some(1),
    }))
}

#[test]
fn a_working_setup_passes_every_check() {
    let expected = "\
ok       dns             discord.com has an address
ok       tcp             discord.com accepts connections on port 443
ok       tls             discord.com has a trusted certificate
ok       http            Discord responds
ok       token_accepted  Discord accepts the token
ok       session_starts  993 of 1000 left, 10 of them in reserve (SESSION_RESERVE), reset in 3 h 12 min (2026-11-25T02:00:00Z)
";
    let (code, shown) = report("https://discord.com/api/v10", &limits(993));
    assert_eq!((code, shown.as_str()), (0, expected));
}

#[test]
fn the_stage_that_failed_is_named_and_what_comes_after_it_is_skipped() {
    let expected = "\
ok       dns             discord.com has an address
FAIL     tcp             connection refused; check NetworkPolicies, firewalls and proxies, and DISCORD_API
skipped  tls             not reached
skipped  http            not reached
skipped  token_accepted  Discord was not reached
skipped  session_starts  Discord was not reached
";
    let failed = |stage| Err((stage, "connection refused".to_owned()));
    let (code, shown) = report("https://discord.com/api/v10", &failed(Subject::Tcp));
    assert_eq!((code, shown.as_str()), (5, expected));
    for (stage, code) in [(Subject::Dns, 4), (Subject::Tls, 6), (Subject::Http, 7)] {
        assert_eq!(report("https://discord.com", &failed(stage)).0, code);
    }
}

#[test]
fn an_unusable_response_is_not_mistaken_for_a_rejected_token() {
    let expected = "\
skipped  dns             127.0.0.1 is an address
ok       tcp             127.0.0.1 accepts connections on port 8080
skipped  tls             DISCORD_API begins with http://
FAIL     http            Discord answered 500; check DISCORD_API, and discordstatus.com
skipped  token_accepted  unknown
skipped  session_starts  unknown
";
    let outcome = Ok(Outcome::Invalid("Discord answered 500".to_owned()));
    let (code, shown) = report("http://127.0.0.1:8080/api", &outcome);
    assert_eq!((code, shown.as_str()), (7, expected));
    let (code, shown) = report("http://h/", &Ok(Outcome::Rejected));
    assert!(
        code == 8 && shown.contains("FAIL     token_accepted  Discord rejects the token (401)"),
        "{shown}"
    );
    let limited = Ok(Outcome::RateLimited(Duration::from_secs(90)));
    let (code, shown) = report("http://h/", &limited);
    assert!(
        code == 7 && shown.contains("retry in 1 min 30 s"),
        "{shown}"
    );
}

#[test]
fn the_source_of_the_token_is_shown_but_not_the_token() {
    let token_is = Current::Token(BotToken::parse("hunter2").unwrap());
    let file = TokenSource::File("/t".into());
    for (source, current, code) in [
        (&file, &token_is, 0),
        (&TokenSource::None, &Current::None, 0),
        (
            &file,
            &Current::Missing("/t contains no token: it is empty".to_owned()),
            3,
        ),
    ] {
        let found = [token(source, current)];
        assert_eq!(exit_code(&found), code);
        assert!(!found[0].message.contains("hunter2"));
    }
}

fn record(holder: &str, renewed: &str) -> LeaseObject {
    let json = json!({
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "renewTime": format!("2026-11-24T{renewed}.000000Z"),
        },
    });
    LeaseObject::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn a_lease_that_is_not_renewed_has_no_leader() {
    let fifteen = Duration::from_secs(15);
    for (holder, renewed, code, shown) in [
        ("bot-1_00ff", "22:47:56", 0, "bot-1 holds the Lease d/bot"),
        (
            "bot-1_00ff",
            "22:47:00",
            10,
            "has not renewed it for 1 min;",
        ),
        // A clock that is ahead.
        ("bot-1_00ff", "22:48:09", 0, "bot-1 holds the Lease d/bot"),
        ("", "22:47:56", 10, "no pod holds the Lease d/bot"),
    ] {
        let found = lease("d/bot", &record(holder, renewed), fifteen, now());
        assert!(found.message.contains(shown), "{found:?}");
        assert_eq!(exit_code(&[found]), code);
    }
}

#[test]
fn a_queue_on_this_machine_reports_the_leader() {
    for (role, message, code, expected) in [
        ("leader", None, 0, "the queue at U is the leader"),
        (
            "leader",
            Some("All used up."),
            0,
            "the queue at U is the leader, but grants nothing. All used up.",
        ),
        ("follower", None, 0, "bot-1 is the leader"),
        ("follower", Some("No response."), 10, "No response."),
        ("none", Some("No leader."), 10, "No leader."),
        (
            "agent",
            None,
            0,
            "the process at U forwards requests to my-bot:80",
        ),
        ("agent", Some("It is gone."), 10, "It is gone."),
    ] {
        let fields = json!({"role": role, "leader_pod": "bot-1", "upstream": "my-bot:80",
            "message": message});
        let found = queue("U", Ok(&leader_with(fields)));
        assert_eq!(found.message, expected);
        assert_eq!(exit_code(&[found]), code);
    }
    let found = queue("U", Err("connection refused"));
    assert_eq!(exit_code(&[found]), 0);
}
