//! The binary with traces, and a collector of a few lines.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// What its other users need of it is not needed here.
#[path = "otel/collector.rs"]
mod collector;
#[allow(dead_code)]
#[path = "server/common/mod.rs"]
mod common;

use std::time::Duration;

use self::collector::{Collector, Span, Value};
use self::common::{Discord, Server, granted};

const TOKEN: &str = "t0ken.of-the.bot";

/// Spans are exported as soon as there are any.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");

fn is(span: &Span, name: &str, outcome: &str) -> bool {
    span.name == name && span.says("outcome", &Value::Word(outcome.to_owned()))
}

#[test]
fn each_identify_is_one_span_from_its_arrival_to_its_grant() {
    let collector = Collector::start();
    let discord = Discord::start();
    discord.say_limits(2, 1000, 60_000);
    let server = Server::start(&[
        ("DISCORD_API", &discord.url),
        ("DISCORD_TOKEN", TOKEN),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        SOON,
    ]);
    granted(&mut server.ask(1));
    granted(&mut server.ask(3));
    let second = collector
        .wait_for(|span| is(span, "identify", "granted") && span.says("shard", &Value::Number(3)));
    assert!(second.says("bucket", &Value::Number(1)), "{second:?}");
    assert!(second.took > Duration::from_millis(400), "{second:?}");
    let Some(Value::Number(waited)) = second.attribute("waited_ms") else {
        panic!("{second:?}");
    };
    assert!(
        *waited > 400 && second.took.as_millis().abs_diff(*waited as u128) < 5,
        "{second:?}"
    );
    assert!(
        matches!(
            second.attribute("late_us"),
            Some(Value::Number(0..1_000_000))
        ),
        "{second:?}"
    );
    collector.wait_for(|span| is(span, "fetch", "limits"));
    let resource = collector.resource();
    for (key, value) in [
        ("service.name", "gateway-queue"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
    ] {
        let said = (key.to_owned(), Value::Word(value.to_owned()));
        assert!(resource.contains(&said), "{resource:?}");
    }
    assert!(!collector.holds("t0ken"));
}

#[test]
fn who_goes_away_or_is_refused_leaves_a_span_too() {
    let collector = Collector::start();
    let server = Server::start(&[
        ("IDENTIFY_INTERVAL", "1h"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        SOON,
    ]);
    granted(&mut server.ask(0));
    let waiting = server.ask(7);
    server.wait_for_state(r#""waiting":[7]"#);
    drop(waiting);
    let gone = collector.wait_for(|span| is(span, "identify", "gone"));
    assert!(gone.says("shard", &Value::Number(7)), "{gone:?}");
    let _refused = server.send(b"GET /?shard=8&wait=0 HTTP/1.1\r\nhost: q\r\n\r\n");
    let refused = collector.wait_for(|span| is(span, "identify", "waiting"));
    assert!(refused.says("shard", &Value::Number(8)), "{refused:?}");
}

#[test]
fn what_was_not_exported_yet_is_exported_at_the_end() {
    let collector = Collector::start();
    let mut server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ]);
    granted(&mut server.ask(0));
    server.signal("-TERM");
    assert!(server.ended().success());
    collector.wait_for(|span| is(span, "identify", "granted"));
}

#[test]
fn nothing_is_exported_unless_it_is_asked_for_and_nothing_that_the_sampler_drops() {
    let collector = Collector::start();
    for environment in [
        &[SOON][..],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
            ("OTEL_SDK_DISABLED", "true"),
        ],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
            ("OTEL_TRACES_SAMPLER", "always_off"),
        ],
    ] {
        let mut server = Server::start(environment);
        granted(&mut server.ask(0));
        server.signal("-TERM");
        assert!(server.ended().success());
        assert_eq!(collector.spans(), [], "{environment:?}");
    }
}

#[test]
fn a_collector_that_is_away_is_said_once_and_costs_no_turn() {
    let nobody = common::fake::Port::take();
    let server = Server::start(&[
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &format!("http://{}", nobody.address),
        ),
        SOON,
    ]);
    granted(&mut server.ask(0));
    server.wait_for_log("spans are lost");
    granted(&mut server.ask(0));
    server.signal("-TERM");
    assert!(
        server
            .log_to_the_end()
            .all(|line| !line.contains("spans are lost"))
    );
}

#[test]
fn a_protocol_that_is_not_spoken_ends_it_at_once() {
    let output = std::process::Command::new(common::BINARY)
        .env_clear()
        .envs([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        line.contains("OTEL_EXPORTER_OTLP_PROTOCOL is not accepted: it must be http/protobuf"),
        "{line}"
    );
}
