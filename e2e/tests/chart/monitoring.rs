//! A real Prometheus scrapes a queue and an operator, as the chart's monitors configure it, and
//! evaluates the chart's alerts and the expressions of its dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use crate::cluster::{
    Namespace, apply_queue, kubectl, namespace, run, variable, wait_for, without_discord,
};
use crate::common::http::get;
use crate::common::namespace::discord_api;
use crate::definition::shared;
use crate::helm::Helm;

/// Expressions without a result while all is well: what blocks grants, and failures.
const EMPTY: [&str; 3] = [
    "gateway_queue_blocked",
    "outcome=\"failed\"",
    "outcome=\"failure\"",
];

/// Alerts that look back for minutes, and may be pending on a busy machine.
const LOOK_BACK: [&str; 2] = ["GatewayQueueGrantsLate", "GatewayQueueOperatorErrors"];

#[test]
fn every_panel_shows_data_and_no_alert_fires_while_a_queue_is_well() {
    let _shared = shared();
    let namespace = &namespace("monitoring");
    create_kinds();
    let enabled = "--set=podMonitor.enabled=true,serviceMonitor.enabled=true,\
                   prometheusRule.enabled=true,dashboard.enabled=true";
    Helm::Four.install(namespace, "seen", enabled);
    start_queue(namespace);
    apply_queue(namespace, "other", &without_discord());
    namespace.wait_until_ready("other");

    let monitor = namespace.get("podmonitor/seen-gateway-queue-operator-queues");
    let pods = selected(namespace, "pods", &monitor);
    let queues: BTreeSet<&str> = pods.iter().map(instance).collect();
    assert_eq!(queues, BTreeSet::from(["bot", "other"]));
    let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
    let mut addresses: Vec<_> = pods.iter().map(|pod| address(pod, port)).collect();
    let target = |(pod, address): (&Value, &SocketAddr)| {
        let labels = json!({
            "namespace": namespace.name(),
            "gatewayqueue": instance(pod),
            "pod": pod["metadata"]["name"],
        });
        json!({"targets": [address], "labels": labels})
    };
    let mut targets: Vec<_> = pods.iter().zip(&addresses).map(target).collect();

    let monitor = namespace.get("servicemonitor/seen-gateway-queue-operator");
    let services = selected(namespace, "services", &monitor);
    let [service] = &services[..] else {
        panic!("not one Service but {services:?}");
    };
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(service["spec"]["ports"][0]["name"], endpoint["port"]);
    let selector = labels(&service["spec"]["selector"]);
    let operator = &namespace.get(&format!("pods {selector}"))["items"][0];
    let address_of_operator = address(operator, &endpoint["port"]);
    let labels = json!({"namespace": namespace.name(), "service": service["metadata"]["name"]});
    targets.push(json!({"targets": [address_of_operator], "labels": labels}));
    addresses.push(address_of_operator);

    let rule = namespace.get("prometheusrule/seen-gateway-queue-operator");
    let folder = tempfile::tempdir().unwrap();
    let configuration = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "all", "honor_labels": endpoint["honorLabels"], "static_configs": targets},
        ],
    });
    // JSON is YAML.
    let write = |name, content: &Value| fs::write(folder.path().join(name), content.to_string());
    write("prometheus.yaml", &configuration).unwrap();
    write("rules.yaml", &rule["spec"]).unwrap();
    let prometheus = Prometheus::start(folder.path());

    // A grant for each bucket and one that waits, through the leader and through the other pod.
    let clients: Vec<_> = pods
        .iter()
        .filter(|pod| instance(pod) == "bot")
        .map(|pod| address(pod, &json!("queue")))
        .cycle()
        .zip(0..4)
        .map(|(address, shard)| thread::spawn(move || get(address, &format!("/?shard={shard}"))))
        .collect();
    for client in clients {
        let response = client.join().unwrap().unwrap();
        assert!(response.contains("free to connect"), "{response}");
    }

    let dashboard = namespace.get("configmap/seen-gateway-queue-operator-dashboard");
    let dashboard = dashboard["data"]["gateway-queue.json"].as_str().unwrap();
    let expressions = expressions(&serde_json::from_str(dashboard).unwrap());
    assert!(expressions.len() > 15, "{expressions:?}");
    for (title, expression) in expressions {
        let may_be_empty = EMPTY.iter().any(|name| expression.contains(name));
        wait_for(&title, || match prometheus.series(&expression)? {
            0 if !may_be_empty => Err(format!("no data: {expression}")),
            _ => Ok(()),
        });
    }

    // A misspelled metric would keep an alert silent.
    let pages = addresses.iter().map(|address| get(*address, "/metrics"));
    let scraped: BTreeSet<String> = pages.flat_map(|page| metrics(&page.unwrap())).collect();
    let used = [rule["spec"].to_string(), dashboard.to_owned()].concat();
    let used: BTreeSet<&str> = used
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("gateway_queue_"))
        .collect();
    let missing = used.iter().filter(|name| !scraped.contains(**name));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:?} are not in {scraped:?}");

    let alerts = wait_for("all rules to be evaluated", || prometheus.alerts());
    assert!(alerts.len() >= 10, "{alerts:?}");
    // An alert may be pending for a moment because of the shard that waited.
    wait_for("all alerts to be inactive", || {
        let is_well = |(name, state): &(String, String)| {
            state == "inactive" || state == "pending" && LOOK_BACK.contains(&name.as_str())
        };
        let alerts = prometheus.alerts()?;
        match alerts.iter().find(|alert| !is_well(alert)) {
            Some((name, state)) => Err(format!("{name} is {state}")),
            None => Ok(()),
        }
    });
}

/// Creates the kinds of prometheus-operator, which stay: the chart uses them only if a value enables it.
fn create_kinds() {
    for kind in ["podmonitors", "prometheusrules", "servicemonitors"] {
        let file = format!("{}/{kind}-crd.json", variable("MONITORS"));
        kubectl(&format!("apply --server-side --filename {file}")).unwrap();
        // helm reads the kinds of the cluster, and the API server lists a new one a moment later.
        let kind = format!("{kind}.monitoring.coreos.com");
        let get = format!("get {kind} --all-namespaces");
        wait_for(&kind, || kubectl(&get));
    }
}

/// Starts the queue `bot` with two pods, and waits until both are ready.
fn start_queue(namespace: &Namespace) {
    namespace.create_secret("bot");
    let token = json!({"name": "bot"});
    let spec = json!({"tokenSecretRef": token, "discordApi": discord_api(), "replicas": 2});
    apply_queue(namespace, "bot", &spec);
    namespace.wait_until_ready("bot");
    // A GatewayQueue is ready as soon as one pod grants.
    let all = "rollout status deployment/bot-queue --timeout=180s";
    namespace.kubectl(all).unwrap();
}

/// Returns the objects that the selector of a monitor selects.
fn selected(namespace: &Namespace, what: &str, monitor: &Value) -> Vec<Value> {
    let selector = labels(&monitor["spec"]["selector"]["matchLabels"]);
    let list = namespace.get(&format!("{what} {selector}"));
    list["items"].as_array().unwrap().clone()
}

fn labels(labels: &Value) -> String {
    let labels = labels.as_object().unwrap().iter();
    let pairs = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap()));
    format!("--selector={}", pairs.collect::<Vec<_>>().join(","))
}

fn instance(object: &Value) -> &str {
    let labels = &object["metadata"]["labels"];
    labels["app.kubernetes.io/instance"].as_str().unwrap()
}

/// Returns the address of a pod's named port, which this machine can reach.
fn address(pod: &Value, port: &Value) -> SocketAddr {
    let ip = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
    let named = ports.iter().find(|named| named["name"] == *port);
    let number = named.and_then(|named| named["containerPort"].as_u64());
    SocketAddr::new(ip, number.unwrap().try_into().unwrap())
}

/// Returns the titles of the panels and their expressions, with the variables filled in.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$namespace", ".*")
                .replace("$gatewayqueue", ".*");
            assert!(!expression.contains('$'), "{expression}");
            found.push((panel["title"].to_string(), expression));
        }
    }
    found
}

/// Returns the names of the metrics of a page, including those without a series yet.
fn metrics(page: &str) -> Vec<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.flat_map(|line| match line.split_once(' ') {
        Some((name, "counter")) => vec![format!("{name}_total")],
        Some((name, "histogram")) => ["bucket", "count", "sum"]
            .map(|suffix| format!("{name}_{suffix}"))
            .into(),
        Some((name, _)) => vec![name.to_owned()],
        None => Vec::new(),
    });
    names.collect()
}

/// A Prometheus, stopped when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(folder: &Path) -> Self {
        let check = ["check", "config", "prometheus.yaml"];
        let mut promtool = Command::new(variable("PROMTOOL"));
        run(promtool.args(check).current_dir(folder), "").unwrap();
        // It does not report the port if the system chooses it.
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

    /// Returns the number of series that an expression results in.
    fn series(&self, expression: &str) -> Result<usize, String> {
        let expression: String = byte_serialize(expression.as_bytes()).collect();
        let response = self.json(&format!("/api/v1/query?query={expression}"))?;
        let result = response["data"]["result"].as_array();
        result.map(Vec::len).ok_or_else(|| response.to_string())
    }

    /// Returns the names and states of all alerts, once each has been evaluated.
    fn alerts(&self) -> Result<Vec<(String, String)>, String> {
        let response = self.json("/api/v1/rules")?;
        let groups = response["data"]["groups"].as_array().into_iter().flatten();
        groups
            .flat_map(|group| group["rules"].as_array().into_iter().flatten())
            .map(|rule| {
                let field = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
                if rule["health"] == "ok" {
                    Ok((field("name"), field("state")))
                } else {
                    Err(rule.to_string())
                }
            })
            .collect()
    }

    fn json(&self, path: &str) -> Result<Value, String> {
        let body = get(self.address, path)?;
        serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
