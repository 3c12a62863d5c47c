//! A real Prometheus looks at a real queue and operator, with the alerts and
//! the dashboard of the chart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::cluster::{Namespace, run, variable, wait_for};
use crate::definition::Shared;
use crate::helm::{Helm, chart};
use crate::queue::{self, get};

/// What is empty while all is well: what holds, what fails, what is not answered.
const EMPTY: [&str; 3] = [
    "gateway_queue_blocked",
    "outcome=\"failure\"",
    "outcome=\"failed\"",
];

#[test]
fn every_panel_shows_something_of_a_queue_that_is_well_and_no_alert_is_due() {
    let _shared = Shared::hold();
    let namespace = &Namespace::new("dashboard");
    let chart = chart();
    Helm::Four.install(namespace, "seen", &[]).unwrap();
    queue::start(namespace, 1);

    let folder = tempfile::tempdir().unwrap();
    let rules = Helm::Four.run(
        namespace,
        &[
            "template",
            "seen",
            &chart,
            "--kube-version=1.35.4",
            "--set=prometheusRule.renderMode=alwaysRender",
            "--show-only=templates/prometheusrule.yaml",
        ],
    );
    fs::write(folder.path().join("rules.yaml"), spec_of(&rules.unwrap())).unwrap();
    fs::write(
        folder.path().join("prometheus.yaml"),
        configuration(namespace),
    )
    .unwrap();
    let prometheus = Prometheus::start(folder.path());

    // A turn for each bucket, and one that has to wait for another.
    let port = address(namespace, queue::PODS, 80);
    let shards: Vec<_> = (0..3)
        .map(|shard| thread::spawn(move || get(port, &format!("/?shard={shard}"))))
        .collect();
    for shard in shards {
        assert!(shard.join().unwrap().unwrap().contains("free to connect"));
    }

    let text = fs::read_to_string(format!("{chart}/files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut seen = 0;
    for (title, expression) in expressions(&dashboard) {
        if EMPTY.iter().any(|name| expression.contains(name)) {
            assert!(
                prometheus.asks(&expression).is_ok(),
                "{title}: {expression}"
            );
            continue;
        }
        wait_for(&title, || match prometheus.asks(&expression)? {
            0 => Err(format!("nothing comes of {expression}")),
            _ => Ok(()),
        });
        seen += 1;
    }
    assert!(seen > 15, "only {seen} expressions were looked at");

    let rules = wait_for("all rules to be looked at", || prometheus.rules());
    assert!(rules.len() >= 10, "{rules:?}");
    // One may be pending for a moment, for the shard that waited a second ago. Two
    // look back for minutes, on a machine that is busy: those must not be due.
    const LOOK_BACK: [&str; 2] = ["GatewayQueueGrantsLate", "GatewayQueueOperatorErrors"];
    wait_for("no alert to be due, or about to be", || {
        let rules = prometheus.rules()?;
        let harmless = |name: &str, state: &str| match LOOK_BACK.contains(&name) {
            true => state != "firing",
            false => state == "inactive",
        };
        match rules.iter().find(|(name, state)| !harmless(name, state)) {
            Some((name, state)) => Err(format!("{name} is {state}")),
            None => Ok(()),
        }
    });
    Helm::Four
        .run(namespace, &["uninstall", "seen", "--wait"])
        .unwrap();
}

/// With the labels that the PodMonitor and the ServiceMonitor give. JSON is YAML.
fn configuration(namespace: &Namespace) -> String {
    let queue = address(namespace, queue::PODS, 9090);
    let operator = address(
        namespace,
        "app.kubernetes.io/name=gateway-queue-operator",
        8080,
    );
    let name = namespace.name();
    let target =
        |address: SocketAddr, labels: Value| json!({"targets": [address], "labels": labels});
    json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "all", "static_configs": [
            target(queue, json!({"namespace": name, "gatewayqueue": "bot", "pod": "bot-0"})),
            target(operator, json!({
                "namespace": name,
                "service": "seen-gateway-queue-operator-metrics",
            })),
        ]}],
    })
    .to_string()
}

fn address(namespace: &Namespace, label: &str, port: u16) -> SocketAddr {
    let found = queue::addresses(namespace, label, port);
    let [address] = found[..] else {
        panic!("not one pod with {label} but {found:?}");
    };
    address
}

/// What is under `spec:` of a rendered object.
fn spec_of(object: &str) -> String {
    let (_, spec) = object.split_once("\nspec:\n").unwrap();
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the panels ask, as Grafana would ask it, with the panels' titles.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let mut found = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let filled = BTreeMap::from([
                ("$__rate_interval", "1m"),
                ("$namespace", ".*"),
                ("$gatewayqueue", ".*"),
            ]);
            let mut expression = expression.to_owned();
            for (name, value) in filled {
                expression = expression.replace(name, value);
            }
            assert!(!expression.contains('$'), "{expression}");
            found.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    found
}

/// Ends with the test.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(folder: &std::path::Path) -> Self {
        let check = ["check", "config", "prometheus.yaml"];
        let mut promtool = Command::new(variable("PROMTOOL"));
        run(promtool.args(check).current_dir(folder), "").unwrap();
        // It does not tell which port it was given.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = Command::new(variable("PROMETHEUS"))
            .arg("--config.file=prometheus.yaml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { process, address };
        wait_for("Prometheus", || get(address, "/-/ready"));
        prometheus
    }

    /// How many series come of an expression.
    fn asks(&self, expression: &str) -> Result<usize, String> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in expression.bytes() {
            let _ = write!(path, "%{byte:02X}");
        }
        let said = self.json(&path)?;
        match said["data"]["result"].as_array() {
            Some(result) => Ok(result.len()),
            None => Err(said.to_string()),
        }
    }

    /// The alerts and their states, once each was looked at.
    fn rules(&self) -> Result<Vec<(String, String)>, String> {
        let said = self.json("/api/v1/rules")?;
        let mut states = Vec::new();
        for group in said["data"]["groups"].as_array().into_iter().flatten() {
            for rule in group["rules"].as_array().into_iter().flatten() {
                if rule["health"] != "ok" {
                    return Err(rule.to_string());
                }
                let word = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
                states.push((word("name"), word("state")));
            }
        }
        Ok(states)
    }

    fn json(&self, path: &str) -> Result<Value, String> {
        let said = get(self.address, path)?;
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
