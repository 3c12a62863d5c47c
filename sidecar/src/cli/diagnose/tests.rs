use gateway_queue_core::bot_token::BotToken;

use super::super::color::Paint;
use super::super::report::{exit_code, text};
use super::*;

fn now() -> Timestamp {
    "2026-11-24T22:48:00Z".parse().unwrap()
}

fn asked(api: &str, reached: &Reached) -> (u8, String) {
    let findings = discord(&Url::parse(api).unwrap(), reached, 10, now());
    (exit_code(&findings), text(&findings, Paint::None))
}

fn limits(remaining: u64) -> Reached {
    Reached::Answered(Outcome::Limits(Limits {
        shards: 3,
        total: 1000,
        remaining,
        reset_after: Duration::from_secs(11_520),
        max_concurrency: Some(1),
    }))
}

#[test]
fn all_is_well() {
    let expected = "\
ok       dns             discord.com has an address
ok       tcp             discord.com takes connections on port 443
ok       tls             discord.com has a certificate to trust
ok       http            Discord answers
ok       token_accepted  Discord takes the token
ok       session_starts  993 of 1000 left, 10 of them kept back (SESSION_RESERVE), reset in 3 h 12 min (2026-11-25T02:00:00Z)
";
    let (code, said) = asked("https://discord.com/api/v10", &limits(993));
    assert_eq!((code, said.as_str()), (0, expected));
}

#[test]
fn what_is_kept_back_is_not_left() {
    let (code, said) = asked("https://discord.com/api/v10", &limits(10));
    assert_eq!(code, 9);
    assert!(
        said.contains("FAIL     session_starts  10 of 1000 left, 10 of them kept back"),
        "{said}"
    );
    assert_eq!(asked("https://discord.com/api/v10", &limits(11)).0, 0);
}

#[test]
fn the_stage_that_failed_is_named_and_what_comes_after_it_is_skipped() {
    let expected = "\
ok       dns             discord.com has an address
FAIL     tcp             connection refused; look at NetworkPolicies, firewalls and proxies, and at DISCORD_API
skipped  tls             it did not come to that
skipped  http            it did not come to that
skipped  token_accepted  Discord was not reached
skipped  session_starts  Discord was not reached
";
    let failed = |stage| Reached::Failed(stage, "connection refused".to_owned());
    let (code, said) = asked("https://discord.com/api/v10", &failed(Stage::Tcp));
    assert_eq!((code, said.as_str()), (5, expected));
    for (stage, code) in [(Stage::Dns, 4), (Stage::Tls, 6), (Stage::Http, 7)] {
        assert_eq!(asked("https://discord.com", &failed(stage)).0, code);
    }
}

#[test]
fn an_answer_that_is_no_good_is_not_taken_for_a_bad_token() {
    let expected = "\
skipped  dns             127.0.0.1 is an address
ok       tcp             127.0.0.1 takes connections on port 8080
skipped  tls             DISCORD_API begins with http://
FAIL     http            Discord answered 500; look at DISCORD_API, and at discordstatus.com
skipped  token_accepted  Discord did not say
skipped  session_starts  Discord did not say
";
    let outcome = Reached::Answered(Outcome::Invalid("Discord answered 500".to_owned()));
    let (code, said) = asked("http://127.0.0.1:8080/api", &outcome);
    assert_eq!((code, said.as_str()), (7, expected));
    let (code, said) = asked("http://h/", &Reached::Answered(Outcome::Rejected));
    assert!(
        code == 8 && said.contains("FAIL     token_accepted  Discord rejects the token (401)"),
        "{said}"
    );
    let limited = Reached::Answered(Outcome::RateLimited(Duration::from_secs(90)));
    let (code, said) = asked("http://h/", &limited);
    assert!(
        code == 7 && said.contains("ask again in 1 min 30 s"),
        "{said}"
    );
}

#[test]
fn where_the_token_came_from_is_said_and_never_what_it_is() {
    let token_is = Current::Token(BotToken::parse("hunter2").unwrap());
    let file = TokenSource::File("/t".into());
    for (source, current, code) in [
        (&file, &token_is, 0),
        (&TokenSource::None, &Current::None, 0),
        (
            &file,
            &Current::Missing("/t holds no token: it is empty".to_owned()),
            3,
        ),
    ] {
        let found = [token(source, current)];
        assert_eq!(exit_code(&found), code);
        assert!(!found[0].words.contains("hunter2"));
    }
}

fn record(holder: &str, renewed: &str) -> LeaseObject {
    let json = serde_json::json!({
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
    });
    LeaseObject::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn a_lease_that_nobody_renews_names_no_leader() {
    let fifteen = Duration::from_secs(15);
    for (holder, renewed, code, said) in [
        (
            "bot-1_00ff",
            "2026-11-24T22:47:56.000000Z",
            0,
            "bot-1 holds the Lease d/bot",
        ),
        (
            "bot-1_00ff",
            "2026-11-24T22:47:00.000000Z",
            10,
            "did not renew it for 1 min;",
        ),
        // A clock that is ahead.
        (
            "bot-1_00ff",
            "2026-11-24T22:48:09.000000Z",
            0,
            "bot-1 holds the Lease d/bot",
        ),
        (
            "",
            "2026-11-24T22:47:56.000000Z",
            10,
            "nobody holds the Lease d/bot",
        ),
    ] {
        let found = lease("d/bot", &record(holder, renewed), fifteen, now());
        assert!(found.words.contains(said), "{found:?}");
        assert_eq!(exit_code(&[found]), code);
    }
}

#[test]
fn a_queue_that_answers_says_who_leads() {
    let seen = |json: &str| RemoteState::parse(json.as_bytes()).unwrap();
    for (json, code, said) in [
        (r#"{"role":"leader"}"#, 0, "the queue at U leads"),
        (
            r#"{"role":"leader","blocked_by":"token_rejected"}"#,
            0,
            "leads, but grants nothing: Discord rejects the token",
        ),
        (
            r#"{"role":"follower","leader":"10.0.0.7:9091"}"#,
            0,
            "the pod at 10.0.0.7:9091 leads",
        ),
        (r#"{"role":"none"}"#, 10, "nobody leads"),
    ] {
        let found = queue("U", Ok(&seen(json)));
        assert!(found.words.contains(said), "{found:?}");
        assert_eq!(exit_code(&[found]), code);
    }
    let found = queue("U", Err("connection refused"));
    assert_eq!(exit_code(&[found]), 0);
}
