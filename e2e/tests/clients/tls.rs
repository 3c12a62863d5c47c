//! Discord's TLS: a server in front of the fake, and what the libraries need to trust it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use gateway_queue_testkit::certificates::Authority;
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Serves Discord's names on port 443, and passes everything on to `to`. Returns the variables that
/// make programs trust its authority, whose files are in the folder.
pub(crate) async fn serve(to: String) -> (TempDir, Vec<(&'static str, String)>) {
    let authority = Authority::new("a CA for tests");
    let config = authority.certify_as(&["discord.com", "gateway.discord.gg"]);
    let listener = TcpListener::bind("127.0.0.1:443").await.unwrap();
    tokio::spawn(forward(listener, config, to));
    trust(&authority)
}

async fn forward(listener: TcpListener, config: Arc<ServerConfig>, to: String) {
    let acceptor = TlsAcceptor::from(config);
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, to) = (acceptor.clone(), to.clone());
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(to).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

fn trust(authority: &Authority) -> (TempDir, Vec<(&'static str, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (pem, store) = (path("ca.pem"), path("ca.p12"));
    fs::write(&pem, authority.pem()).unwrap();
    // Java reads no PEM files.
    let imported = Command::new("keytool")
        .args([
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-storetype",
            "PKCS12",
        ])
        .args(["-storepass", "changeit", "-file"])
        .arg(&pem)
        .arg("-keystore")
        .arg(&store)
        .output()
        .unwrap();
    assert!(imported.status.success(), "{imported:?}");
    let pem = pem.display().to_string();
    let java = format!(
        "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=changeit",
        store.display()
    );
    let variables = vec![
        ("NODE_EXTRA_CA_CERTS", pem.clone()),
        // Python and Go.
        ("SSL_CERT_FILE", pem),
        ("JAVA_TOOL_OPTIONS", java),
    ];
    (folder, variables)
}
