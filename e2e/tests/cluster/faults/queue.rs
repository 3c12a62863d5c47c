//! The queue under test: its pods, its Lease and its addresses.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::clients::Target;
use crate::api::{Api, LEASE, POD, QUEUE, condition, is_ready};
use crate::common::http;
use crate::kubectl::Namespace;
use crate::process::Process;
use crate::wait::{wait_for, wait_until};

const PORT: u16 = 5000;
const ADMIN_PORT: u16 = 9090;

/// Pods start within seconds, on a busy machine within a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection to a pod takes less than a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A GatewayQueue in its own namespace. Its name is in the manifest of the shards.
pub(crate) struct Queue<'a> {
    pub(crate) namespace: &'a Namespace,
    /// For what is read often: each kubectl takes a tenth of a second of processor time, and so
    /// delays what other tests measure.
    pub(crate) api: Api,
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
        let spec = json!({"replicas": replicas, "maxConcurrency": buckets});
        let queue = Self::start(namespace, spec);
        queue.wait_for_pods(replicas);
        queue
    }

    /// Applies the GatewayQueue, and waits until it grants.
    pub(crate) fn start(namespace: &'a Namespace, mut spec: Value) -> Self {
        spec["port"] = PORT.into();
        namespace.apply_queue("my-bot", &spec).unwrap();
        let api = Api::new();
        let queue = Self { namespace, api };
        queue.ready();
        queue.leader();
        queue
    }

    /// Waits for the condition Ready.
    pub(crate) fn ready(&self) {
        self.namespace.wait_until_ready("my-bot");
    }

    /// Changes the spec.
    pub(crate) fn patch(&self, spec: &Value) {
        let patch = json!({ "spec": spec }).to_string();
        let patch = format!("patch gwq my-bot --type=merge --patch {patch}");
        self.namespace.kubectl(&patch).unwrap();
    }

    /// Scales the queue by `kubectl scale`, and waits until exactly this many pods are ready.
    pub(crate) fn scale(&self, replicas: usize) {
        let scale = format!("scale gwq my-bot --replicas={replicas}");
        self.namespace.kubectl(&scale).unwrap();
        self.wait_for_pods(replicas);
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
        let holder = lease["spec"]["holderIdentity"].as_str();
        holder.filter(|holder| !holder.is_empty())?;
        let annotations = &lease["metadata"]["annotations"];
        let address = annotations["gatewayqueue.dev/leader-address"].as_str()?;
        let address: SocketAddr = address.parse().unwrap();
        self.pods().into_iter().find(|pod| pod.ip == address.ip())
    }

    /// The holder of the Lease, which differs for each process and term. Empty if the Lease
    /// is released.
    pub(crate) fn holder(&self) -> String {
        let holder = &self.lease()["spec"]["holderIdentity"];
        holder.as_str().unwrap_or_default().to_owned()
    }

    /// The name of the leader in the status.
    pub(crate) fn leader_in_status(&self) -> String {
        self.namespace.field("gwq/my-bot", ".status.leader")
    }

    /// The status and the message of a condition.
    pub(crate) fn condition(&self, type_: &str) -> (String, String) {
        let queue = self.api.get(QUEUE, self.namespace.name(), "my-bot");
        let [status, _, message] = condition(&queue.unwrap(), type_);
        (status, message)
    }

    /// The number of events with this reason.
    pub(crate) fn events(&self, reason: &str) -> usize {
        let events = format!("events --field-selector=reason={reason}");
        let events = self.namespace.get(&events);
        events["items"].as_array().map_or(0, Vec::len)
    }

    pub(crate) fn lease(&self) -> Value {
        let name = LEASE.child_of("my-bot");
        let lease = self.api.get(LEASE, self.namespace.name(), &name);
        lease.unwrap_or_default()
    }

    /// When the Lease was acquired, by the clock of this machine.
    pub(crate) fn acquired(&self) -> SystemTime {
        let acquired = &self.lease()["spec"]["acquireTime"];
        let acquired: jiff::Timestamp = acquired.as_str().unwrap().parse().unwrap();
        acquired.into()
    }

    /// The address of the Service, once it leads to a pod: kube-proxy learns of a ready pod at the
    /// same time as the operator, so a queue may be Ready a moment earlier.
    pub(crate) fn service(&self) -> Target {
        let service = self.namespace.get("service/my-bot");
        let ip = service["spec"]["clusterIP"].as_str().unwrap();
        let port = &service["spec"]["ports"][0]["port"];
        let address = format!("{ip}:{port}").parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok();
        wait_until("a connection to the Service", PATIENCE, connect);
        Target {
            name: "service",
            address,
        }
    }

    /// Returns the response body of a path of a pod's admin port.
    pub(crate) fn admin(&self, pod: &Pod, path: &str) -> String {
        http::get((pod.ip, ADMIN_PORT).into(), path).unwrap()
    }

    fn pods(&self) -> Vec<Pod> {
        let pods = self.api.list(POD, self.namespace.name()).into_iter();
        let is_ours =
            |pod: &Value| pod["metadata"]["labels"]["app.kubernetes.io/name"] == "gateway-queue";
        let ours = pods.filter(is_ours);
        ours.filter_map(|pod| ready(&pod)).collect()
    }
}

impl Pod {
    /// The process of the queue server.
    pub(crate) fn process(&self) -> Process {
        Process::in_pod(&self.uid, "/gateway-queue")
    }

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
    if !is_ready(pod) {
        return None;
    }
    Some(Pod {
        name: pod["metadata"]["name"].as_str()?.to_owned(),
        uid: pod["metadata"]["uid"].as_str()?.to_owned(),
        ip: pod["status"]["podIP"].as_str()?.parse().ok()?,
    })
}
