//! The HTTP client for the API server, which trusts the CA file as it is now.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::{debug, info, warn};

use crate::client::{self, Unusable};

/// The CA file, and a client that trusts what it contains.
///
/// The kubelet replaces the file when the cluster's CA is rotated, and the API
/// server may present a certificate of the new CA a moment later. So the file is read
/// before each request, like the token, and the client is replaced with it.
#[derive(Debug)]
pub(crate) struct Trust {
    ca: PathBuf,
    limits: Limits,
    current: Mutex<Current>,
}

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For the end of an answer; a watch is one.
    pub(crate) answer: Duration,
}

#[derive(Debug)]
struct Current {
    /// The file, as it was read last.
    pem: Vec<u8>,
    /// Trusts what the file contained when it was last readable.
    client: Client,
}

impl Trust {
    /// Reads the file for the first time.
    pub(crate) fn new(ca: PathBuf, limits: Limits) -> Result<Self, Unusable> {
        let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", ca.display());
        let pem = fs::read(&ca).map_err(|error| shown(&error))?;
        let client = trusting(&pem, limits).map_err(|error| shown(&error))?;
        Ok(Self {
            ca,
            limits,
            current: Mutex::new(Current { pem, client }),
        })
    }

    /// Returns a client that trusts the file as it is now; as it was before while it is
    /// absent or has no certificate.
    pub(crate) fn client(&self) -> Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.ca.display();
        match fs::read(&self.ca) {
            Ok(pem) if pem == current.pem => {}
            Ok(pem) => {
                match trusting(&pem, self.limits) {
                    Ok(client) => {
                        info!(%file, "the CA certificates changed");
                        current.client = client;
                    }
                    Err(error) => warn!(%file, %error, "cannot use the changed CA certificates"),
                }
                current.pem = pem;
            }
            Err(error) => debug!(%file, %error, "cannot read the CA certificates"),
        }
        current.client.clone()
    }
}

fn trusting(pem: &[u8], limits: Limits) -> Result<Client, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".into());
    }
    // Never by a proxy that was meant for the outside.
    client::client(roots, limits.answer, |builder| {
        builder.no_proxy().connect_timeout(limits.connect)
    })
}
