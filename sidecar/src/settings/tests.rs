use super::*;

fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<Command, Invalid> {
    Settings::read(args.iter().map(Into::into), |name| {
        let found = environment.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.into())
    })
}

fn settings(environment: &[(&str, &str)]) -> Settings {
    match read(&[], environment).unwrap() {
        Command::Run(settings) => *settings,
        Command::Print(text) => panic!("{text}"),
    }
}

fn refusal(environment: &[(&str, &str)]) -> String {
    read(&[], environment).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_the_originals_and_discords() {
    let settings = settings(&[]);
    assert_eq!(
        (settings.host.to_string().as_str(), settings.port),
        ("0.0.0.0", 80)
    );
    assert_eq!(settings.spacing(), Duration::from_millis(5250));
    assert_eq!(settings.refresh_interval, Duration::from_secs(300));
    assert_eq!(settings.token, TokenSource::None);
    assert!(settings.start_guard && settings.lease.is_none());
}

#[test]
fn a_flag_wins_over_the_environment_and_an_empty_value_is_none() {
    let Command::Run(settings) = read(
        &["--port", "1", "--port=2", "--host", "::"],
        &[("PORT", "3"), ("LEASE_NAME", "")],
    )
    .unwrap() else {
        panic!("no settings");
    };
    assert_eq!((settings.port, settings.lease.clone()), (2, None));
    assert_eq!(settings.admin_host().to_string(), "::");
}

#[test]
fn every_bad_value_is_named_with_what_is_accepted() {
    for (name, value, accepted) in [
        ("HOST", "nowhere", "an IP address"),
        ("PORT", "70000", "a port, 0 to 65535"),
        ("ADMIN_PORT", "-1", "a port"),
        ("IDENTIFY_INTERVAL", "4.9s", "5s or more"),
        ("IDENTIFY_INTERVAL", "soon", "such as 5s"),
        ("IDENTIFY_MARGIN", "-1s", "a duration"),
        ("IDENTIFY_MARGIN", "2000000h", "at most a day"),
        ("MAX_CONCURRENCY", "0", "1 to 4096"),
        ("MAX_CONCURRENCY", "4097", "1 to 4096"),
        ("START_GUARD", "yes", "true or false"),
        ("SESSION_RESERVE", "-1", "0 or more"),
        ("REFRESH_INTERVAL", "0s", "above zero"),
        ("PLACE_KEPT", "x", "a duration"),
        ("DISCORD_API", "discord.com", "http:// or https://"),
        ("LOG_FORMAT", "xml", "text or json"),
        ("RUST_LOG", "loud", "a level"),
        ("RUST_LOG", "info,gateway_queue=loud", "a level"),
        ("DISCORD_TOKEN_FILE", "", "the path of a file"),
    ] {
        let line = refusal(&[(name, value)]);
        assert!(line.starts_with(&format!("{name}={value:?} ")), "{line}");
        assert!(line.contains(accepted) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn in_the_cluster_the_lease_needs_its_company_and_times_that_fit() {
    let pod = [
        ("LEASE_NAME", "bot"),
        ("LEASE_NAMESPACE", "default"),
        ("POD_NAME", "bot-1"),
        ("POD_IP", "10.0.0.1"),
    ];
    let lease = settings(&pod).lease.unwrap();
    assert_eq!(lease.duration, Duration::from_secs(15));
    assert_eq!(lease.margin, Duration::from_millis(1500));
    for missing in &pod[1..] {
        let rest: Vec<_> = pod.iter().copied().filter(|v| v != missing).collect();
        assert!(refusal(&rest).starts_with(&format!("{} is missing", missing.0)));
    }
    for (name, value, accepted) in [
        ("LEASE_DURATION", "31s", "3s to 30s"),
        ("LEASE_DURATION", "4500ms", "whole seconds"),
        ("LEASE_MARGIN", "1499ms", "a tenth"),
        ("LEASE_MARGIN", "8s", "a half"),
        ("LEASE_RENEW", "7s", "at most half"),
        ("POD_IP", "here", "an IP address"),
    ] {
        let mut environment = pod.to_vec();
        environment.retain(|(given, _)| *given != name);
        environment.push((name, value));
        let line = refusal(&environment);
        assert!(line.starts_with(name) && line.contains(accepted), "{line}");
    }
}

#[test]
fn tests_may_go_below_discords_interval_but_not_to_zero() {
    let unsafe_too = ("ALLOW_UNSAFE_INTERVAL", "true");
    let settings = settings(&[("IDENTIFY_INTERVAL", "500ms"), unsafe_too]);
    assert_eq!(settings.interval, Duration::from_millis(500));
    assert!(refusal(&[("IDENTIFY_INTERVAL", "0s"), unsafe_too]).contains("above zero"));
}

#[test]
fn the_token_is_neither_printed_nor_a_flag() {
    let settings = settings(&[("DISCORD_TOKEN", "sup3r.secret")]);
    assert!(matches!(settings.token, TokenSource::Given(_)));
    assert!(!format!("{settings:?}").contains("sup3r"));
    assert!(!refusal(&[("DISCORD_TOKEN", "sup3r secret")]).contains("sup3r"));
    assert!(read(&["--discord-token", "x"], &[]).is_err());
}

#[test]
fn an_address_that_may_hold_a_secret_is_not_repeated() {
    for url in [
        "https://u:hunter2@x/",
        "https://x/?token=hunter2",
        "x#hunter2",
    ] {
        let line = refusal(&[("DISCORD_API", url)]);
        assert!(
            line.starts_with("DISCORD_API ") && !line.contains("hunter2"),
            "{line}"
        );
    }
}

#[test]
fn a_token_that_was_left_empty_or_is_no_text_is_not_taken_for_none() {
    assert!(refusal(&[("DISCORD_TOKEN", "")]).contains("it is empty"));
    let bytes = std::os::unix::ffi::OsStringExt::from_vec(vec![b'/', 0xf6]);
    let bytes: OsString = bytes;
    let read = Settings::read([], |name| {
        (name == "DISCORD_TOKEN_FILE").then(|| bytes.clone())
    });
    let line = read.unwrap_err().to_string();
    assert!(
        line.starts_with("DISCORD_TOKEN_FILE is not accepted"),
        "{line}"
    );
}

#[test]
fn a_queue_that_is_kept_to_this_machine_keeps_its_admin_port_there() {
    assert!(
        settings(&[("HOST", "127.0.0.1")])
            .admin_host()
            .is_loopback()
    );
    assert!(
        settings(&[("HOST", "10.0.0.1")])
            .admin_host()
            .is_unspecified()
    );
}

#[test]
fn the_token_file_wins() {
    let settings = settings(&[("DISCORD_TOKEN", "a"), ("DISCORD_TOKEN_FILE", "/t")]);
    assert_eq!(settings.token, TokenSource::File("/t".into()));
}

#[test]
fn help_names_every_setting() {
    let Command::Print(help) = read(&["--help"], &[]).unwrap() else {
        panic!("no help");
    };
    assert!(TABLE.iter().all(|row| help.contains(row.0)));
}

#[test]
fn an_unknown_flag_is_refused() {
    for args in [&["--prot", "1"][..], &["-p"], &["run"], &["--port"]] {
        assert!(read(args, &[]).is_err(), "{args:?}");
    }
}
