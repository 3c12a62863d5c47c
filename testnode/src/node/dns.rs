//! The cluster's DNS: its Kubernetes objects, and a check that it serves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::NetworkSettings;

/// How long a connection or an answer may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The port on which CoreDNS reports that it is ready.
pub(crate) const READY_PORT: u16 = 8181;

/// Returns the objects with which CoreDNS, one of the node's programs, is the usual Service
/// for pods.
pub(crate) fn manifest(settings: &NetworkSettings) -> String {
    let NetworkSettings {
        node, dns_service, ..
    } = settings;
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
  clusterIP: {dns_service}
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
  - {{addresses: [{node}], conditions: {{ready: true}}}}
ports:
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: dns-tcp, port: 53, protocol: TCP}}
"
    )
}

/// Checks that CoreDNS has read the API server's Services, and that the host reaches it by
/// its own Service, which takes kube-proxy and the host's routes.
pub(crate) fn check(settings: &NetworkSettings) -> Result<()> {
    let connect = |address: SocketAddr| -> std::io::Result<TcpStream> {
        let connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        Ok(connection)
    };
    let mut answer = String::new();
    let mut ready = connect((settings.node, READY_PORT).into()).context("reaching CoreDNS")?;
    ready.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    ready.read_to_string(&mut answer)?;
    if !answer.contains(" 200 OK\r\n") {
        bail!("CoreDNS is not ready");
    }
    connect((settings.dns_service, 53).into()).context("reaching the Service of the DNS")?;
    Ok(())
}
