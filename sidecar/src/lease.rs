//! The Lease of this queue, at the API server.
//!
//! One object is all that the queue needs of Kubernetes; a whole client library
//! would double the program.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::client::{self, Unusable};
use crate::settings::LeaseRef;

/// What the kubelet mounts into each pod.
const CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer that is no Lease is quoted up to this length.
const MOST_QUOTED: usize = 300;

/// A way to the Lease.
#[derive(Clone, Debug)]
pub struct Lease {
    client: Client,
    url: String,
}

/// Why a request came to nothing. A sentence that quotes the API server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Lease {
    /// The Lease in the cluster that this pod runs in; `environment` says where the API
    /// server is.
    ///
    /// # Errors
    ///
    /// When this is no pod with a service account.
    pub fn in_cluster(
        lease: &LeaseRef,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Unusable> {
        let given = |name: &str| environment(name).ok_or(format!("{name} is not set"));
        let server = address(
            &given("KUBERNETES_SERVICE_HOST")?,
            &given("KUBERNETES_SERVICE_PORT")?,
        );
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(CA).map_err(|error| format!("{CA}: {error}"))?;
        for certificate in certificates {
            roots.add(certificate?)?;
        }
        // Never by a proxy that was meant for the outside.
        let client = client::client(roots, PATIENCE, |builder| builder.no_proxy())?;
        let LeaseRef {
            namespace, name, ..
        } = lease;
        Ok(Self {
            client,
            url: format!(
                "{server}/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
            ),
        })
    }

    /// Sets these annotations, and removes those that are none.
    ///
    /// # Errors
    ///
    /// When the API server does not answer within 10 s, or refuses.
    pub async fn annotate(
        &self,
        annotations: &BTreeMap<&'static str, Option<String>>,
    ) -> Result<(), Failure> {
        let patch = json!({"metadata": {"annotations": annotations}});
        let request = self
            .client
            .patch(&self.url)
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .header(AUTHORIZATION, authorization()?)
            .body(patch.to_string());
        let response = request
            .send()
            .await
            .map_err(|error| Failure(client::cause(&error)))?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(refusal(response).await),
        }
    }
}

/// The kubelet renews the token in its file.
fn authorization() -> Result<HeaderValue, Failure> {
    let token = fs::read_to_string(TOKEN).map_err(|e| Failure(format!("{TOKEN}: {e}")))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Failure(format!("{TOKEN} does not fit into a header")))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn refusal(response: Response) -> Failure {
    let status = response.status().as_u16();
    let body = response.text().await.unwrap_or_default();
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or(&body);
    let message: String = message.chars().take(MOST_QUOTED).collect();
    Failure(format!("the API server answered {status}: {message}"))
}

fn address(host: &str, port: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(host)) => format!("https://[{host}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_may_have_any_kind_of_address() {
        assert_eq!(address("10.96.0.1", "443"), "https://10.96.0.1:443");
        assert_eq!(address("fd00::1", "443"), "https://[fd00::1]:443");
        assert_eq!(address("api.local", "6443"), "https://api.local:6443");
    }

    #[test]
    fn outside_of_a_pod_it_says_what_is_missing() {
        let lease = LeaseRef {
            namespace: "n".to_owned(),
            name: "l".to_owned(),
            pod: "p".to_owned(),
        };
        let error = Lease::in_cluster(&lease, |_| None).unwrap_err();
        assert_eq!(error.to_string(), "KUBERNETES_SERVICE_HOST is not set");
    }
}
