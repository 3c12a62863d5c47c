//! An HTTP client that trusts the certificates of a file, as it is now.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, ClientBuilder};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::{info, warn};

use crate::http_client::{self, Unusable};

/// A file with CA certificates, and a client that trusts what it contains.
///
/// The kubelet replaces the file when the cluster's CA or a ConfigMap changes, and a server may
/// present a certificate of the new CA a moment later. So the file is read before each request,
/// and the client is replaced with it.
#[derive(Debug)]
pub(crate) struct CaFile {
    path: PathBuf,
    settings: ClientSettings,
    current: Mutex<Current>,
}

/// The settings of the client, besides the file.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    /// The certificates that it always trusts.
    pub(crate) roots: RootCertStore,
    /// The time limit of a complete response, which includes a watch.
    pub(crate) limit: Duration,
    /// Any other settings.
    pub(crate) change: fn(ClientBuilder) -> ClientBuilder,
}

impl ClientSettings {
    /// Returns a client that trusts these certificates, too.
    pub(crate) fn client(&self, more: RootCertStore) -> Result<Client, Unusable> {
        let mut roots = self.roots.clone();
        roots.extend(more.roots);
        http_client::client(roots, self.limit, self.change)
    }
}

#[derive(Debug)]
struct Current {
    /// The file, as it was read last; none if that failed.
    pem: Option<Vec<u8>>,
    /// Trusts what the file contained when it was last usable.
    client: Client,
    /// Why the file is not usable now.
    problem: Option<String>,
}

impl CaFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    ///
    /// If it has no usable certificate.
    pub(crate) fn new(path: PathBuf, settings: ClientSettings) -> Result<Self, Unusable> {
        let file = Self::optional(path, settings)?;
        match file.client().1 {
            Some(problem) => Err(problem.into()),
            None => Ok(file),
        }
    }

    /// The same for a file that may be absent or unusable for now.
    ///
    /// # Errors
    ///
    /// If there is no usable TLS or DNS configuration.
    pub(crate) fn optional(path: PathBuf, settings: ClientSettings) -> Result<Self, Unusable> {
        let client = settings.client(RootCertStore::empty())?;
        let current = Current {
            pem: Some(Vec::new()),
            client,
            problem: Some(format!(
                "{}: no usable certificate (0 refused)",
                path.display()
            )),
        };
        Ok(Self {
            path,
            settings,
            current: Mutex::new(current),
        })
    }

    /// Returns a client that trusts the file as it is now; as it was before while it is
    /// absent or has no usable certificate. Then the second value is the reason.
    pub(crate) fn client(&self) -> (Client, Option<String>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::read(&self.path) {
            Ok(pem) if current.pem.as_ref() == Some(&pem) => {}
            Ok(pem) => {
                self.replace(&mut current, trusting(&self.path, &pem, &self.settings));
                current.pem = Some(pem);
            }
            Err(error) => {
                self.replace(&mut current, Err(error.into()));
                current.pem = None;
            }
        }
        (current.client.clone(), current.problem.clone())
    }

    fn replace(&self, current: &mut Current, client: Result<Client, Unusable>) {
        let file = self.path.display();
        match client {
            Ok(client) => {
                info!(%file, "CA certificates read");
                current.client = client;
                current.problem = None;
            }
            Err(error) => {
                let problem = Some(format!("{file}: {error}"));
                if current.problem != problem {
                    warn!(%file, error = error.to_string(), "CA certificates unusable");
                }
                current.problem = problem;
            }
        }
    }
}

fn trusting(path: &Path, pem: &[u8], settings: &ClientSettings) -> Result<Client, Unusable> {
    let Bundle { roots, refused } = Bundle::read(pem);
    if roots.is_empty() {
        return Err(format!("no usable certificate ({} refused)", refused.len()).into());
    }
    if let Some(error) = refused.first() {
        let (file, used, refused) = (path.display(), roots.len(), refused.len());
        warn!(%file, used, refused, error = error.to_string(), "some CA certificates refused");
    }
    settings.client(roots)
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

    fn settings() -> ClientSettings {
        ClientSettings {
            roots: RootCertStore::empty(),
            limit: Duration::from_secs(1),
            change: |builder| builder,
        }
    }

    fn trust(pem: &str) -> Result<CaFile, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, pem).unwrap();
        CaFile::new(file.path().into(), settings()).map_err(|error| error.to_string())
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

    #[test]
    fn an_optional_file_is_read_when_it_exists_and_is_kept_while_it_is_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let file = CaFile::optional(path.clone(), settings()).unwrap();
        let problem = || file.client().1;
        assert!(problem().unwrap().contains("No such file"));
        fs::write(&path, "no PEM").unwrap();
        assert!(
            problem()
                .unwrap()
                .ends_with("no usable certificate (0 refused)")
        );
        fs::write(&path, Authority::new("one").pem()).unwrap();
        assert_eq!(problem(), None);
        fs::remove_file(&path).unwrap();
        assert!(problem().unwrap().contains("No such file"));
    }
}
