use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

fn read_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command, Error> {
    Command::read(arguments.iter().map(OsString::from), |name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    })
}

fn settings(arguments: &[&str], variables: &[(&str, &str)]) -> Settings {
    match read_with(arguments, variables).unwrap() {
        Command::Run(settings) => settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_image_is_required() {
    let expected = Settings {
        defaults: QueueDefaults {
            image: "q:1".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
        },
        watch_namespaces: Vec::new(),
        election: None,
        admin_port: 8080,
        log_format: LogFormat::Text,
        log_filter: "info".to_owned(),
    };
    assert_eq!(settings(&["--queue-image", "q:1"], &[]), expected);
    assert_eq!(settings(&[], &[("QUEUE_IMAGE", "q:1")]), expected);
}

#[test]
fn a_flag_takes_precedence_over_its_variable() {
    let variables = [
        ("QUEUE_IMAGE", "q:1"),
        ("QUEUE_IMAGE_PULL_POLICY", "Always"),
        ("QUEUE_IMAGE_PULL_SECRETS", "one, my.two,one"),
        ("WATCH_NAMESPACE", "a"),
        ("ADMIN_PORT", "1"),
        ("LOG_FORMAT", "text"),
    ];
    let flags = [
        "--queue-image=q:2",
        "--queue-image-pull-policy=Never",
        "--watch-namespace=b,c",
        "--watch-namespace=d",
        "--admin-port=2",
        "--log-format=json",
    ];
    let settings = settings(&flags, &variables);
    assert_eq!(settings.defaults.image, "q:2");
    assert_eq!(
        settings.defaults.image_pull_policy,
        Some(ImagePullPolicy::Never)
    );
    assert_eq!(settings.defaults.image_pull_secrets, ["one", "my.two"]);
    assert_eq!(settings.watch_namespaces, ["b", "c", "d"]);
    assert_eq!(settings.admin_port, 2);
    assert_eq!(settings.log_format, LogFormat::Json);
}

#[test]
fn an_empty_variable_is_not_set() {
    let variables = [("QUEUE_IMAGE", "q:1"), ("WATCH_NAMESPACE", "")];
    assert!(settings(&[], &variables).watch_namespaces.is_empty());
}

#[test]
fn an_invalid_value_is_one_line_with_name_value_and_what_is_accepted() {
    let error = |arguments: &[&str], variables: &[(&str, &str)]| {
        let message = read_with(arguments, variables).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    assert!(error(&[], &[]).contains("QUEUE_IMAGE"));
    for (argument, text) in [
        ("--queue-image=", "name of an image"),
        (
            "--queue-image-pull-policy=Often",
            "\"Often\"; accepted is Always, IfNotPresent or Never",
        ),
        ("--watch-namespace=a,,b", "\"a,,b\""),
        ("--watch-namespace=A", "names of namespaces"),
        ("--admin-port=0", "a port from 1 to 65535"),
        ("--log-format=xml", "text or json"),
        ("--moon", "--moon"),
        ("moon", "moon"),
    ] {
        let message = error(&["--queue-image=q", argument], &[]);
        assert!(message.contains(text), "{message}");
    }
    for (name, value, text) in [
        ("QUEUE_IMAGE_PULL_SECRETS", "a,B", "names of Secrets"),
        ("RUST_LOG", "a=loud", "RUST_LOG is \"a=loud\""),
        ("RUST_LOG", "loud", "RUST_LOG is \"loud\""),
        ("RUST_LOG", "info,loud", "RUST_LOG is \"info,loud\""),
    ] {
        let message = error(&["--queue-image=q"], &[(name, value)]);
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn the_crd_the_help_and_the_version_need_no_setting() {
    assert_eq!(read_with(&["crd"], &[]).unwrap(), Command::Crd);
    for (arguments, text) in [
        (&["--help"][..], "--queue-image <QUEUE_IMAGE>"),
        (&["--help"], "QUEUE_IMAGE_PULL_SECRETS"),
        (&["check", "--help"], "--readyz <VALUE>"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let Command::Print(printed) = read_with(arguments, &[]).unwrap() else {
            panic!("{arguments:?} prints nothing");
        };
        assert!(printed.contains(text), "{printed}");
    }
}

#[test]
fn the_lease_of_the_election_depends_on_the_namespaces() {
    let all = [
        ("QUEUE_IMAGE", "q:1"),
        ("LEADER_ELECTION", "true"),
        ("POD_NAME", "operator-1"),
        ("POD_NAMESPACE", "system"),
    ];
    // One Lease for all operators of all namespaces, and one in each that is watched, even if both
    // Leases are in one namespace.
    let (one, each) = (
        "operator.gatewayqueue.dev",
        "namespace.operator.gatewayqueue.dev",
    );
    let shared = ["--leader-election-namespace=shared"].as_slice();
    for (flags, watched, namespace, lease) in [
        (&[][..], None, "kube-system", one),
        (&[], Some("bots"), "bots", each),
        (shared, None, "shared", one),
        (shared, Some("shared"), "shared", each),
    ] {
        let election = settings(flags, &all).election.unwrap();
        let expected = Candidacy {
            lease,
            namespace: namespace.to_owned(),
            identity: "system/operator-1".to_owned(),
        };
        assert_eq!(election.candidacy(watched), expected);
    }
    assert_eq!(settings(&["--leader-election=false"], &all).election, None);
    assert_eq!(settings(&[], &[("QUEUE_IMAGE", "q:1")]).election, None);
}

#[test]
fn settings_of_the_election_are_checked_even_if_they_are_not_used() {
    let image = ("QUEUE_IMAGE", "q:1");
    let error = |variables: &[(&str, &str)]| read_with(&[], variables).unwrap_err().to_string();
    let no_pod = error(&[image, ("LEADER_ELECTION", "true")]);
    assert!(no_pod.contains("POD_NAME is not set"), "{no_pod}");
    let no_namespace = error(&[image, ("LEADER_ELECTION", "true"), ("POD_NAME", "a")]);
    let expected = "POD_NAMESPACE is not set; accepted is the namespace of this operator's pod";
    assert!(no_namespace.starts_with(expected), "{no_namespace}");
    for (name, value) in [
        ("LEADER_ELECTION", "perhaps"),
        ("LEADER_ELECTION_NAMESPACE", "a.b"),
        ("POD_NAMESPACE", "A"),
        ("POD_NAME", "a/b"),
    ] {
        let error = error(&[image, (name, value)]);
        assert!(error.contains(name) && error.contains(value), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_environment_is_valid_or_an_error_that_names_a_variable(
        environment in environment(),
    ) {
        let read = Command::read([], |name| {
            environment.get(name).map(|value| OsString::from_vec(value.clone()))
        });
        match read {
            Ok(Command::Run(settings)) => {
                prop_assert!(settings.admin_port > 0 && !settings.defaults.image.is_empty());
                prop_assert!(settings.log_filter.parse::<Targets>().is_ok());
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(error) => {
                let line = error.to_string();
                prop_assert!(VARIABLES.iter().any(|name| line.contains(name)), "{line}");
                prop_assert!(!line.chars().any(char::is_control), "{line}");
            }
        }
    }
}

const VARIABLES: [&str; 10] = [
    "QUEUE_IMAGE",
    "QUEUE_IMAGE_PULL_POLICY",
    "QUEUE_IMAGE_PULL_SECRETS",
    "WATCH_NAMESPACE",
    "LEADER_ELECTION_LEASE",
    "LEADER_ELECTION_NAMESPACE",
    "POD_NAME",
    "ADMIN_PORT",
    "LOG_FORMAT",
    "RUST_LOG",
];

/// Any bytes for any of the variables, mostly values that may be accepted.
fn environment() -> impl Strategy<Value = HashMap<&'static str, Vec<u8>>> {
    let name = prop::sample::select(&VARIABLES[..]);
    let usual = prop::sample::select(
        &[
            "", "q:1", "a", "a,b", "a.b", "A", "Always", "65535", "65536", "0", "-1", "json",
            "info", "a=loud",
        ][..],
    );
    let text = prop_oneof![
        8 => usual.prop_map(|text| text.as_bytes().to_vec()),
        1 => "\\PC{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    prop::collection::hash_map(name, text, 0..10)
}
