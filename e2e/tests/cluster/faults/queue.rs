//! The queue under test: its pods, its Lease and its addresses.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::clients::Target;
use crate::api::condition;
use crate::kubectl::Namespace;
use crate::wait::wait_for;

/// The name in the manifest of the shards.
const NAME: &str = "my-bot";
const PORT: u16 = 5000;
const ADMIN_PORT: u16 = 9090;

/// Pods start within seconds, on a busy machine within a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// A GatewayQueue in its own namespace.
pub(crate) struct Queue<'a> {
    pub(crate) namespace: &'a Namespace,
}

/// A pod that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ip: IpAddr,
}

impl<'a> Queue<'a> {
    /// Starts a queue without a token, with this number of pods and buckets.
    pub(crate) fn without_token(namespace: &'a Namespace, replicas: usize, buckets: u32) -> Self {
        let queue = Self::start(
            namespace,
            json!({"replicas": replicas, "maxConcurrency": buckets}),
        );
        queue.wait_for_pods(replicas);
        queue
    }

    /// Applies the GatewayQueue, and waits until it grants.
    pub(crate) fn start(namespace: &'a Namespace, mut spec: Value) -> Self {
        spec["port"] = PORT.into();
        namespace.apply_queue(NAME, &spec).unwrap();
        let queue = Self { namespace };
        queue.ready();
        queue.leader();
        queue
    }

    /// Waits for the condition Ready.
    pub(crate) fn ready(&self) {
        self.namespace.wait_until_ready(&[NAME]);
    }

    /// Changes the spec.
    pub(crate) fn patch(&self, spec: &Value) {
        let patch = json!({ "spec": spec }).to_string();
        let patching = ["patch", "gwq", NAME, "--type=merge", "--patch", &patch];
        self.namespace.kubectl(&patching).unwrap();
    }

    /// Scales the queue by `kubectl scale`.
    pub(crate) fn scale(&self, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        self.namespace
            .kubectl(&["scale", "gwq", NAME, &replicas])
            .unwrap();
    }

    /// Waits until exactly this many pods are ready.
    pub(crate) fn wait_for_pods(&self, count: usize) -> Vec<Pod> {
        let what = format!("{count} pods of {}", self.namespace.name());
        wait_for(&what, PATIENCE, || {
            let pods = self.pods();
            (pods.len() == count).then_some(pods)
        })
    }

    /// Waits for a leader, and returns its pod.
    pub(crate) fn leader(&self) -> Pod {
        wait_for("a leader", PATIENCE, || self.leader_now())
    }

    /// Waits until another pod is the leader.
    pub(crate) fn wait_for_another_leader(&self, before: &Pod) {
        wait_for("a new leader", PATIENCE, || {
            self.leader_now().filter(|leader| leader != before)
        });
    }

    /// The pods other than the leader.
    pub(crate) fn others(&self) -> Vec<Pod> {
        let leader = self.leader();
        let mut pods = self.pods();
        pods.retain(|pod| *pod != leader);
        pods
    }

    /// The pod of the leader, if there is one.
    pub(crate) fn leader_now(&self) -> Option<Pod> {
        let lease = self.lease();
        lease["spec"]["holderIdentity"]
            .as_str()
            .filter(|holder| !holder.is_empty())?;
        let address =
            lease["metadata"]["annotations"]["gatewayqueue.dev/leader-address"].as_str()?;
        let address: SocketAddr = address.parse().unwrap();
        self.pods().into_iter().find(|pod| pod.ip == address.ip())
    }

    /// The holder of the Lease, which differs for each process and term. Empty if the Lease
    /// is released.
    pub(crate) fn holder(&self) -> String {
        let lease = self.lease();
        let holder = lease["spec"]["holderIdentity"].as_str();
        holder.unwrap_or_default().to_owned()
    }

    /// The name of the leader in the status.
    pub(crate) fn leader_in_status(&self) -> String {
        let queue = self.get(&["gwq", NAME]);
        queue["status"]["leader"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The status and the message of a condition.
    pub(crate) fn condition(&self, type_: &str) -> (String, String) {
        let [status, _, message] = condition(&self.get(&["gwq", NAME]), type_);
        (status, message)
    }

    /// The number of events with this reason.
    pub(crate) fn events(&self, reason: &str) -> usize {
        let selector = format!("--field-selector=reason={reason}");
        let events = self.get(&["events", &selector]);
        events["items"].as_array().map_or(0, Vec::len)
    }

    /// The annotations of the Lease.
    pub(crate) fn annotations(&self) -> Value {
        self.lease()["metadata"]["annotations"].clone()
    }

    /// When the Lease was acquired, by the clock of this machine.
    pub(crate) fn acquired(&self) -> SystemTime {
        let lease = self.lease();
        let acquired = lease["spec"]["acquireTime"].as_str();
        let acquired: jiff::Timestamp = acquired
            .and_then(|acquired| acquired.parse().ok())
            .unwrap_or_else(|| panic!("{lease:#}"));
        acquired.into()
    }

    /// The address of the Service.
    pub(crate) fn service(&self) -> Target {
        let service = self.get(&["service", NAME]);
        let ip = service["spec"]["clusterIP"].as_str().unwrap();
        let port = service["spec"]["ports"][0]["port"].as_u64().unwrap();
        Target {
            name: "service",
            address: format!("{ip}:{port}").parse().unwrap(),
        }
    }

    /// Returns the response body of a path of a pod's admin port.
    pub(crate) fn admin(&self, pod: &Pod, path: &str) -> String {
        let mut stream = TcpStream::connect((pod.ip, ADMIN_PORT)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    fn pods(&self) -> Vec<Pod> {
        let list = self.get(&["pods", "--selector=app.kubernetes.io/name=gateway-queue"]);
        let pods = list["items"].as_array().unwrap().iter();
        pods.filter_map(ready).collect()
    }

    fn lease(&self) -> Value {
        self.get(&["lease", NAME])
    }

    fn get(&self, what: &[&str]) -> Value {
        let get = [&["get"], what, &["--output=json"]].concat();
        serde_json::from_str(&self.namespace.kubectl(&get).unwrap()).unwrap()
    }
}

impl Pod {
    /// The target of clients of this pod.
    pub(crate) fn target(&self, name: &'static str) -> Target {
        Target {
            name,
            address: (self.ip, PORT).into(),
        }
    }
}

/// The pod, if it is ready and not being deleted.
fn ready(pod: &Value) -> Option<Pod> {
    let metadata = &pod["metadata"];
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    if !metadata["deletionTimestamp"].is_null() || !conditions.iter().any(ready) {
        return None;
    }
    Some(Pod {
        name: metadata["name"].as_str()?.to_owned(),
        uid: metadata["uid"].as_str()?.to_owned(),
        ip: pod["status"]["podIP"].as_str()?.parse().ok()?,
    })
}
