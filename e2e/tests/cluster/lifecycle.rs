//! From `kubectl apply` to `kubectl delete`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{CHILDREN, Kind};
use crate::kubectl::{Namespace, command, discord_api};
use crate::wait::{wait_for, wait_until};

const GRANT: &str = r#"{"message": "You're free to connect now! :)"}"#;

/// The start guard and the pacing take seconds; the rest is for a busy node.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_queue_is_applied_grants_and_is_deleted() {
    let namespace = Namespace::new("lifecycle");
    namespace.create_secret("my-bot");
    let spec = json!({
        "tokenSecretRef": {"name": "my-bot"},
        "discordApi": discord_api(),
        "port": 5000,
        "replicas": 2,
        "networkPolicy": {"enabled": true},
    });
    namespace.apply_queue("my-bot", &spec).unwrap();
    namespace.wait_until_ready("my-bot");

    let table = namespace.kubectl("get gwq").unwrap();
    let url = "http://my-bot.gwq-e2e-lifecycle.svc";
    for word in ["READY", "URL", "True", url] {
        assert!(table.contains(word), "{word} in {table}");
    }

    // The original accepts any method, path and body.
    let (forward, address) = PortForward::start(&namespace);
    let request = "POST /any/path?shard=3 HTTP/1.1\r\nhost: q\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
    let mut times = Vec::new();
    for _ in 0..2 {
        let (response, at) = exchange(&address, request);
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(
            response.ends_with(&format!("\r\n\r\n{GRANT}")),
            "{response}"
        );
        times.push(at);
    }
    let spacing = times[1] - times[0];
    assert!(spacing > Duration::from_millis(5100), "{spacing:?}");
    drop(forward);

    for kind in CHILDREN {
        cannot_be_created_again(&namespace, kind);
    }
    namespace.kubectl("delete gwq my-bot").unwrap();
    // The garbage collector may be busy with the children of other tests.
    wait_until("the children to be deleted", PATIENCE * 3, || {
        let kinds = "deployments,replicasets,pods,services,leases,roles,rolebindings,\
                     serviceaccounts,poddisruptionbudgets,networkpolicies";
        let ours = "--selector=app.kubernetes.io/managed-by=gateway-queue-operator";
        let children = namespace.kubectl(&format!("get {kinds} {ours} --output=name"));
        children.unwrap().is_empty()
    });
    // The user's own objects stay.
    namespace.kubectl("get secret my-bot").unwrap();
}

/// A running `kubectl port-forward`, killed when dropped.
struct PortForward(Child);

impl PortForward {
    /// Starts it, and returns its address.
    fn start(namespace: &Namespace) -> (Self, String) {
        let forward = "port-forward --address=127.0.0.1 service/my-bot :80";
        let mut kubectl = command(&format!("--namespace {} {forward}", namespace.name()));
        let mut kubectl = kubectl.stdout(Stdio::piped()).spawn().unwrap();
        // The pipe stays open: kubectl prints a line for each connection, and exits if it cannot.
        let mut stdout = BufReader::new(kubectl.stdout.as_mut().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let address = words.find(|word| word.parse::<SocketAddr>().is_ok());
        let address = address.unwrap_or_else(|| panic!("kubectl printed {line:?}"));
        (Self(kubectl), address.to_owned())
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request, and reads until the other side closes, which may be later than the last byte.
/// Returns the response and the time of its last byte.
fn exchange(address: &str, request: &str) -> (String, Instant) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut response, mut last_byte) = (Vec::new(), Instant::now());
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => return (String::from_utf8(response).unwrap(), last_byte),
            read => response.extend_from_slice(&chunk[..read]),
        }
        last_byte = Instant::now();
    }
}

/// The operator creates a child by an apply with a resource version that no object has. The API
/// server must refuse that for an existing object.
fn cannot_be_created_again(namespace: &Namespace, kind: Kind) {
    let create = json!({
        "apiVersion": kind.version,
        "kind": kind.word,
        "metadata": {
            "name": kind.child_of("my-bot"),
            "resourceVersion": "1",
            "labels": {"owner": "another-client"},
        },
    });
    let apply = "apply --server-side --field-manager=another-client --filename -";
    let refused = namespace.feed(apply, &create.to_string()).unwrap_err();
    assert!(
        refused.contains("the object has been modified"),
        "{refused}"
    );
}

#[test]
fn a_queue_without_a_token_is_ready_and_reports_its_max_concurrency() {
    let namespace = Namespace::new("no-token");
    let spec = json!({"maxConcurrency": 16});
    namespace.apply_queue("plain", &spec).unwrap();
    namespace.wait_until_ready("plain");
    let concurrency = wait_for("the status", PATIENCE, || {
        let field = namespace.field("gwq/plain", ".status.maxConcurrency");
        (!field.is_empty()).then_some(field)
    });
    assert_eq!(concurrency, "16");
}
