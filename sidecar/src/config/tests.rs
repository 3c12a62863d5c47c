use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;
use crate::clock::boot_time;

fn read(
    args: &[&str],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Settings, Invalid> {
    let command = clap::Command::new("")
        .no_binary_name(true)
        .args(arguments());
    Settings::read(&command.get_matches_from(args), environment)
}

fn from(environment: &[(&str, &str)]) -> Result<Settings, Invalid> {
    read(&[], |name| {
        let found = environment.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.into())
    })
}

fn settings(environment: &[(&str, &str)]) -> Settings {
    from(environment).unwrap()
}

fn refusal(environment: &[(&str, &str)]) -> String {
    from(environment).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_those_of_the_original_and_of_discord() {
    let settings = settings(&[]);
    assert_eq!((settings.host, settings.port), (None, 80));
    assert_eq!(settings.spacing(), Duration::from_millis(5250));
    assert_eq!(settings.refresh_interval, Duration::from_secs(300));
    assert_eq!(settings.token, TokenSource::None);
    let ShardLimit { burst, window } = settings.shard_limit;
    assert_eq!((burst, window), (10, Duration::from_secs(600)));
    assert!(settings.start_guard && settings.lease.is_none());
}

#[test]
fn a_flag_takes_precedence_and_an_empty_value_is_not_set() {
    let settings = read(&["--port=2", "--host", "::"], |name| match name {
        "PORT" => Some("3".into()),
        "LEASE_NAME" => Some("".into()),
        _ => None,
    })
    .unwrap();
    assert_eq!((settings.port, settings.lease.clone()), (2, None));
    assert_eq!(settings.host, Some(Ipv6Addr::UNSPECIFIED.into()));
    assert_eq!(settings.admin_host(), None);
}

#[test]
fn the_error_names_the_value_and_states_what_is_accepted() {
    for (name, value, accepted) in [
        ("HOST", "nowhere", "an IP address"),
        ("PORT", "70000", "a port, 0 to 65535"),
        ("ADMIN_PORT", "-1", "a port"),
        ("ADMIN_PORT", "80", "a port other than PORT"),
        ("IDENTIFY_INTERVAL", "4.9s", "5s or more"),
        ("IDENTIFY_INTERVAL", "soon", "such as 5s"),
        ("IDENTIFY_MARGIN", "-1s", "a duration"),
        ("IDENTIFY_MARGIN", "2000000h", "at most a day"),
        ("MAX_CONCURRENCY", "0", "1 to 4096"),
        ("MAX_CONCURRENCY", "4097", "1 to 4096"),
        ("START_GUARD", "yes", "true or false"),
        ("SESSION_RESERVE", "-1", "0 or more"),
        ("REFRESH_INTERVAL", "0s", "above zero"),
        ("RESERVATION_TTL", "x", "a duration"),
        ("SHARD_BURST", "-1", "0 (no limit) to 1000"),
        ("SHARD_BURST", "1001", "0 (no limit) to 1000"),
        ("SHARD_WINDOW", "0s", "above zero"),
        ("DISCORD_API", "discord.com", "http:// or https://"),
        ("LOG_FORMAT", "xml", "text or json"),
        ("RUST_LOG", "loud", "a level"),
        ("RUST_LOG", "info,gateway_queue=loud", "a level"),
        ("DISCORD_TOKEN_FILE", "", "the path of a file"),
        // Without LEASE_NAME, these are not used.
        ("LEASE_NAMESPACE", "No Namespace", "a name"),
        ("LEASE_DURATION", "1s", "3s to 30s"),
        ("LEASE_DURATION", "31s", "3s to 30s"),
        ("LEASE_DURATION", "4500ms", "whole seconds"),
        ("POD_NAME", "my_pod", "a name"),
        ("POD_IP", "10.0.0", "an IP address"),
        ("PEER_PORT", "99999", "a port"),
        ("SHUTDOWN_GRACE", "2 days", "a duration"),
        ("ALLOW_UNSAFE_INTERVAL", "perhaps", "true or false"),
        ("RESERVATION_TTL", "1s", "2s to a day"),
        ("RESERVATION_TTL", "1999ms", "2s to a day"),
        ("UPSTREAM", "my-bot.bots.svc:80", "http://HOST"),
        ("UPSTREAM", "https://my-bot", "https is not supported"),
        ("UPSTREAM", "http://my-bot:0", "http://HOST"),
        ("UPSTREAM", "http://my-bot/queue", "http://HOST"),
        ("UPSTREAM_ADMIN_PORT", "0", "1 to 65535"),
        ("UPSTREAM_ADMIN_PORT", "x", "a port"),
        ("IDENTIFY_MARGIN", "18446744073709551615s", "a duration"),
        ("IDENTIFY_INTERVAL", "18446744073709551615s", "a duration"),
        ("REFRESH_INTERVAL", "9223372036854775807s", "a duration"),
    ] {
        let line = refusal(&[(name, value)]);
        assert!(line.starts_with(&format!("{name}={value:?} ")), "{line}");
        assert!(line.contains(accepted) && !line.contains('\n'), "{line}");
    }
}

const POD: [(&str, &str); 4] = [
    ("LEASE_NAME", "bot"),
    ("LEASE_NAMESPACE", "default"),
    ("POD_NAME", "bot-1"),
    ("POD_IP", "10.0.0.1"),
];

#[test]
fn a_lease_requires_its_other_settings_and_a_port_of_its_own() {
    let lease = settings(&POD).lease.unwrap();
    assert_eq!(lease.duration, Duration::from_secs(15));
    for missing in &POD[1..] {
        let rest: Vec<_> = POD.into_iter().filter(|v| v != missing).collect();
        assert!(refusal(&rest).starts_with(&format!("{} is missing", missing.0)));
    }
    for port in ["80", "9090"] {
        let line = refusal(&[&POD[..], &[("PEER_PORT", port)]].concat());
        assert!(line.contains("other than PORT and ADMIN_PORT"), "{line}");
    }
}

#[test]
fn an_upstream_is_a_host_and_a_port() {
    for (url, host, port) in [
        ("http://my-bot.bots.svc", "my-bot.bots.svc", 80),
        ("http://my-bot:8080/", "my-bot", 8080),
        ("http://10.0.0.1:5000", "10.0.0.1", 5000),
        ("http://[fd00::1]", "[fd00::1]", 80),
    ] {
        let environment = [("UPSTREAM", url), ("UPSTREAM_ADMIN_PORT", "9191")];
        let expected = UpstreamRef {
            host: host.to_owned(),
            port,
            admin_port: 9191,
        };
        assert_eq!(settings(&environment).upstream, Some(expected), "{url}");
    }
    assert_eq!(settings(&[]).upstream, None);
}

#[test]
fn an_agent_is_refused_the_settings_of_a_queue() {
    let upstream = ("UPSTREAM", "http://my-bot");
    for more in [
        &[("DISCORD_TOKEN", "sup3r.secret")][..],
        &[("DISCORD_TOKEN_FILE", "/t")],
        &[("MAX_CONCURRENCY", "16")],
        &[("SESSION_RESERVE", "5")],
        &POD,
    ] {
        let line = refusal(&[&[upstream][..], more].concat());
        let name = more[0].0;
        let expected = format!("UPSTREAM is not accepted together with {name}: ");
        assert!(line.starts_with(&expected), "{line}");
        assert!(!line.contains("sup3r"), "{line}");
    }
}

#[test]
fn with_a_lease_the_name_of_the_pod_must_be_valid_in_an_annotation() {
    let environment = |pod| [POD[0], POD[1], ("POD_NAME", pod), POD[3]];
    let (longest, too_long) = ("p".repeat(63), "p".repeat(64));
    assert_eq!(settings(&environment(&longest)).lease.unwrap().pod, longest);
    assert_eq!(
        refusal(&environment(&too_long)),
        "POD_NAME is not accepted: with LEASE_NAME it must have at most 63 characters, because \
         it names an annotation of the Lease. It has 64"
    );
    assert!(settings(&[("POD_NAME", &too_long)]).lease.is_none());
}

#[test]
fn tests_may_use_a_shorter_interval_than_discords_but_not_zero() {
    let unsafe_too = ("ALLOW_UNSAFE_INTERVAL", "true");
    let settings = settings(&[("IDENTIFY_INTERVAL", "500ms"), unsafe_too]);
    assert_eq!(settings.interval, Duration::from_millis(500));
    assert!(refusal(&[("IDENTIFY_INTERVAL", "0s"), unsafe_too]).contains("above zero"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_environment_is_valid_settings_or_an_error_that_names_a_variable(
        environment in environment(),
    ) {
        let read = read(&[], |name| {
            environment.get(name).map(|value| OsString::from_vec(value.clone()))
        });
        match read {
            Ok(settings) => {
                // What is computed from the settings later.
                prop_assert!(settings.spacing() >= settings.interval);
                prop_assert!(settings.reservation_ttl >= Duration::from_secs(2));
                let _ = settings.admin_host();
                let _ = boot_time::now() + settings.spacing() * MAX_BUCKETS;
            }
            Err(invalid) => {
                let line = invalid.to_string();
                let named = TABLE.iter().any(|row| line.starts_with(row.0));
                prop_assert!(named && !line.chars().any(char::is_control), "{line}");
                prop_assert!(!line.contains("hunter2"), "{line}");
                let token = environment.get("DISCORD_TOKEN").and_then(|t| str::from_utf8(t).ok());
                if let Some(token) = token.filter(|token| token.len() > 9)
                    && line.starts_with("DISCORD_TOKEN is")
                {
                    prop_assert!(!line.contains(token), "{line}");
                }
            }
        }
    }
}

/// Values that are valid for one of the variables, or almost.
const USUAL: &str = "|0|1|-1|65535|65536|18446744073709551615|true|false|perhaps|info|text|json|\
    ::|::1|10.0.0.1|nowhere|/t|bot|bots|0s|1ns|999ms|1500ms|2s|3s|5s|15s|30s|24h|86401s|-1s|1e999s|\
    9223372036854775807s|9223372036854775807ns|18446744073709551615s|\
    http://h|https://u:hunter2@h/|http://h/?t=hunter2|a-token.with spaces|a-token.with\u{7f}";

/// Any bytes for any of the variables, mostly plausible ones.
fn environment() -> impl Strategy<Value = HashMap<&'static str, Vec<u8>>> {
    let name = prop::sample::select(TABLE).prop_map(|row| row.0);
    let usual: Vec<_> = USUAL.split('|').collect();
    let usual = prop::sample::select(usual);
    let text = prop_oneof![
        8 => usual.prop_map(|text| text.as_bytes().to_vec()),
        1 => "\\PC{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ];
    prop::collection::hash_map(name, text, 0..8)
}

#[test]
fn the_token_is_neither_printed_nor_a_flag() {
    let settings = settings(&[("DISCORD_TOKEN", "sup3r.secret")]);
    assert!(matches!(settings.token, TokenSource::Given(_)));
    assert!(!format!("{settings:?}").contains("sup3r"));
    assert!(!refusal(&[("DISCORD_TOKEN", "sup3r secret")]).contains("sup3r"));
    assert!(arguments().all(|arg| arg.get_id() != "DISCORD_TOKEN"));
}

#[test]
fn an_address_that_may_hold_a_secret_is_not_repeated() {
    for url in [
        "https://u:hunter2@x/",
        "https://x/?token=hunter2",
        "x#hunter2",
    ] {
        let line = refusal(&[("DISCORD_API", url)]);
        assert!(line.starts_with("DISCORD_API "), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_token_file_takes_precedence_but_the_token_is_still_checked() {
    let both = |token| [("DISCORD_TOKEN", token), ("DISCORD_TOKEN_FILE", "/t")];
    assert_eq!(settings(&both("a")).token, TokenSource::File("/t".into()));
    assert!(refusal(&both("not a token")).starts_with("DISCORD_TOKEN is not accepted"));
}

#[test]
fn an_empty_token_or_one_that_is_not_text_is_an_error() {
    assert!(refusal(&[("DISCORD_TOKEN", "")]).contains("it is empty"));
    let bytes = OsString::from_vec(vec![b'/', 0xf6]);
    let read = read(&[], |name| {
        (name == "DISCORD_TOKEN_FILE").then(|| bytes.clone())
    });
    let line = read.unwrap_err().to_string();
    assert!(line.starts_with("DISCORD_TOKEN_FILE is not"), "{line}");
}

#[test]
fn the_admin_port_is_local_if_the_host_is_a_loopback_address() {
    for (host, admin) in [
        ("127.0.0.1", Some("127.0.0.1")),
        ("::1", Some("::1")),
        ("::ffff:127.0.0.2", Some("127.0.0.2")),
        ("10.0.0.1", None),
        ("0.0.0.0", None),
        ("::", None),
        ("", None),
    ] {
        let host = settings(&[("HOST", host)]).admin_host();
        assert_eq!(host.map(|ip| ip.to_string()).as_deref(), admin);
    }
}

#[test]
fn a_log_filter_with_a_misleading_meaning_is_refused() {
    let filter = |text| settings(&[("RUST_LOG", text)]).log_filter;
    assert_eq!(
        filter("INFO, gateway_queue = debug"),
        "info,gateway_queue=debug"
    );
    for text in [
        "info,a[{b=info",
        "=info",
        "info,",
        "a=b=info",
        "info gateway_queue=debug",
    ] {
        assert!(refusal(&[("RUST_LOG", text)]).contains("a level"), "{text}");
    }
}
