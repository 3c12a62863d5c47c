//! The HTTP client for the API server, which trusts the CA file as it is now.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::{debug, info, warn};

use crate::http_client::{self, Unusable};

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
    /// For a complete response, which includes a watch.
    pub(crate) response: Duration,
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
        let client = trusting(&ca, &pem, limits).map_err(|error| shown(&error))?;
        Ok(Self {
            ca,
            limits,
            current: Mutex::new(Current { pem, client }),
        })
    }

    /// Returns a client that trusts the file as it is now; as it was before while it is
    /// absent or has no usable certificate.
    pub(crate) fn client(&self) -> Client {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.ca.display();
        match fs::read(&self.ca) {
            Ok(pem) if pem == current.pem => {}
            Ok(pem) => {
                match trusting(&self.ca, &pem, self.limits) {
                    Ok(client) => {
                        info!(%file, "CA certificates changed");
                        current.client = client;
                    }
                    Err(error) => {
                        warn!(%file, error = error.to_string(), "new CA certificates unusable")
                    }
                }
                current.pem = pem;
            }
            Err(error) => debug!(%file, error = error.to_string(), "CA certificates unreadable"),
        }
        current.client.clone()
    }
}

fn trusting(ca: &Path, pem: &[u8], limits: Limits) -> Result<Client, Unusable> {
    let Bundle { roots, refused } = Bundle::read(pem);
    if roots.is_empty() {
        return Err(format!("no usable certificate ({} refused)", refused.len()).into());
    }
    if let Some(error) = refused.first() {
        let (file, used, refused) = (ca.display(), roots.len(), refused.len());
        warn!(%file, used, refused, error = error.to_string(), "some CA certificates refused");
    }
    // The API server is not behind a proxy to the internet.
    http_client::client(roots, limits.response, |builder| {
        builder.no_proxy().connect_timeout(limits.connect)
    })
}

/// The content of a CA file. An unusable certificate, such as an old one with an extension
/// that rustls does not accept, does not affect the others.
struct Bundle {
    roots: RootCertStore,
    /// Why each of the other certificates was refused.
    refused: Vec<Unusable>,
}

impl Bundle {
    fn read(pem: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        let add = |certificate: Result<CertificateDer<'_>, _>| -> Result<(), Unusable> {
            Ok(roots.add(certificate?)?)
        };
        let added = CertificateDer::pem_slice_iter(pem).map(add);
        let refused = added.filter_map(Result::err).collect();
        Self { roots, refused }
    }
}

#[cfg(test)]
mod tests {
    use gateway_queue_testkit::certificates::Authority;

    use super::*;

    /// No certificate, no base64, and no end.
    const UNUSABLE: [&str; 3] = [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    ];

    fn trust(pem: &str) -> Result<Trust, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, pem).unwrap();
        let limits = Limits {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(1),
        };
        Trust::new(file.path().into(), limits).map_err(|error| error.to_string())
    }

    #[test]
    fn a_refused_certificate_does_not_affect_the_others() {
        let [one, two] = ["one", "two"].map(Authority::new);
        for unusable in &UNUSABLE[..2] {
            let pem = [one.pem(), unusable, two.pem()].concat();
            let bundle = Bundle::read(pem.as_bytes());
            assert_eq!((bundle.roots.len(), bundle.refused.len()), (2, 1));
            trust(&pem).unwrap();
        }
        // A file that is still being written has no end.
        let pem = [one.pem(), UNUSABLE[2]].concat();
        let bundle = Bundle::read(pem.as_bytes());
        assert_eq!((bundle.roots.len(), bundle.refused.len()), (1, 1));
    }

    #[test]
    fn a_file_without_any_usable_certificate_is_refused() {
        for (pem, refused) in [("", 0), ("no PEM", 0), (&UNUSABLE.concat(), 3)] {
            let error = trust(pem).unwrap_err();
            let expected = format!("no usable certificate ({refused} refused)");
            assert!(error.ends_with(&expected), "{error}");
        }
    }
}
