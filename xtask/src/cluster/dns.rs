//! The cluster's DNS: the objects that make it a Service, and a question to see
//! that it answers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::layout::{API_SERVICE_IP, DNS_IP, NODE_IP};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);
/// A name that every cluster has.
const NAME: &str = "kubernetes.default.svc.cluster.local";

/// CoreDNS runs as one of the node's programs. To pods it is the Service that
/// they know from elsewhere.
pub(crate) fn manifest() -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: \"system:coredns\"}}
rules:
  - apiGroups: [\"\"]
    resources: [endpoints, namespaces, pods, services]
    verbs: [list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: \"system:coredns\"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: \"system:coredns\"}}
subjects:
  - {{apiGroup: rbac.authorization.k8s.io, kind: User, name: \"system:coredns\"}}
---
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {{k8s-app: kube-dns}}
spec:
  clusterIP: {DNS_IP}
  ports:
    - {{name: dns, port: 53, protocol: UDP}}
    - {{name: dns-tcp, port: 53, protocol: TCP}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns-node
  namespace: kube-system
  labels: {{kubernetes.io/service-name: kube-dns, endpointslice.kubernetes.io/managed-by: gateway-queue-node}}
addressType: IPv4
endpoints:
  - {{addresses: [{NODE_IP}], conditions: {{ready: true}}}}
ports:
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: dns-tcp, port: 53, protocol: TCP}}
"
    )
}

/// Whether the cluster's DNS answers the host through its Service, rightly. This
/// takes CoreDNS, its access to the API server, kube-proxy and the host's routes.
pub(crate) fn answers() -> bool {
    let ask = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddr::from((DNS_IP, 53)))?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send(&question(NAME))?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(is_answered(&answer[..length], API_SERVICE_IP))
    };
    ask().unwrap_or(false)
}

/// A question for the IPv4 address of `name`, in the format of RFC 1035.
fn question(name: &str) -> Vec<u8> {
    const HEADER: [u8; 12] = [0x47, 0x51, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    let mut bytes = HEADER.to_vec();
    for label in name.split('.') {
        // A label is at most 63 bytes, and ours are constants.
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Whether an answer says that all is well and ends with `wanted`: one record
/// of four bytes, with no further sections.
fn is_answered(answer: &[u8], wanted: Ipv4Addr) -> bool {
    let [_, _, flags_high, flags_low, _, _, 0, 1, ..] = answer else {
        return false;
    };
    flags_high & 0x80 != 0 && flags_low & 0x0f == 0 && answer.ends_with(&wanted.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u8, count: u8, address: [u8; 4]) -> Vec<u8> {
        let mut bytes = question("a.b");
        (bytes[2], bytes[3], bytes[7]) = (0x85, code, count);
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        bytes.extend(address);
        bytes
    }

    #[test]
    fn a_question_spells_out_its_labels() {
        assert_eq!(
            question("a.bc")[12..],
            [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]
        );
    }

    #[test]
    fn only_the_wanted_address_is_an_answer() {
        let wanted = Ipv4Addr::new(10, 96, 0, 1);
        assert!(is_answered(&answer(0, 1, [10, 96, 0, 1]), wanted));
        assert!(!is_answered(&answer(0, 1, [10, 96, 0, 2]), wanted));
        assert!(!is_answered(&answer(3, 1, [10, 96, 0, 1]), wanted));
        assert!(!is_answered(&answer(0, 0, [10, 96, 0, 1]), wanted));
        assert!(!is_answered(&question("a.b"), wanted));
        assert!(!is_answered(&[], wanted));
    }
}
