//! The GatewayQueue is deleted while a client waits: the whole server, without a leader to
//! forward to.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Duration;

use futures::future::join_all;
use futures::join;
use gateway_queue::cli::command::Command;
use gateway_queue::config::Settings;
use gateway_queue::server;
use gateway_queue_testkit::api_server::{FakeApiServer, Faults};
use gateway_queue_testkit::scripted_server::ReservedPort;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::pod::{Mount, PATIENCE, new_lease};
use crate::forwarding::pod::{answer, send};

/// The process of a pod. Its connections end with it.
struct Process(Option<Runtime>);

impl Process {
    fn end(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A pod with one client that waits for an hour.
struct Server {
    api_server: FakeApiServer,
    shutdown: CancellationToken,
    process: Process,
    running: JoinHandle<Result<(), server::Failed>>,
    waiting: TcpStream,
    _mount: Mount,
}

const TOKEN: &str = "of the pod";

impl Server {
    async fn start() -> Self {
        let api_server = FakeApiServer::start().await;
        api_server.create(new_lease());
        let mount = Mount::new(TOKEN);
        let port = ReservedPort::new();
        let environment = HashMap::from([
            ("HOST", "127.0.0.1".to_owned()),
            ("PORT", port.address.port().to_string()),
            ("ADMIN_PORT", "0".to_owned()),
            ("PEER_PORT", "0".to_owned()),
            ("IDENTIFY_INTERVAL", "1h".to_owned()),
            ("LEASE_NAME", "my-bot".to_owned()),
            ("LEASE_NAMESPACE", "bots".to_owned()),
            ("POD_NAME", "my-bot-a".to_owned()),
            ("POD_IP", "127.0.0.1".to_owned()),
            ("SHUTDOWN_GRACE", "10m".to_owned()),
        ]);
        let settings = settings(&environment);
        let shutdown = CancellationToken::new();
        let runtime = Runtime::new().unwrap();
        let running = runtime.spawn(server::run_with(
            settings,
            Ok(mount.api_server(&api_server)),
            shutdown.clone(),
        ));
        api_server
            .until(|lease| lease["spec"]["holderIdentity"].is_string())
            .await;
        // The first is granted, so the next one waits.
        let granted = answer(&mut send(port.address, "shard=0").await).await;
        assert!(granted.starts_with("HTTP/1.1 200"), "{granted}");
        let waiting = send(port.address, "shard=1").await;
        Self {
            api_server,
            shutdown,
            process: Process(Some(runtime)),
            running,
            waiting,
            _mount: mount,
        }
    }

    /// Checks that it ends long before its grace, and closes the connection without a grant.
    async fn ends(mut self) {
        let ended = timeout(PATIENCE, self.running).await;
        ended
            .expect("there is no leader to forward to")
            .unwrap()
            .unwrap();
        self.process.end();
        let mut answer = Vec::new();
        // A reset is a close, too.
        let closed = timeout(PATIENCE, self.waiting.read_to_end(&mut answer)).await;
        let _ = closed.expect("the connection is closed");
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
}

fn settings(environment: &HashMap<&str, String>) -> Settings {
    let given = |name: &str| environment.get(name).map(Into::into);
    match Command::read(Vec::<OsString>::new(), given) {
        Ok(Command::Serve(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pod_that_is_about_to_end_closes_its_clients_without_a_readable_lease() {
    let deleted_after_the_release = async {
        let server = Server::start().await;
        server.shutdown.cancel();
        let released = |lease: &Value| lease["spec"]["holderIdentity"] == "";
        server.api_server.until(released).await;
        server.api_server.delete();
        server.ends().await;
    };
    let deleted_before = async {
        let server = Server::start().await;
        server.api_server.delete();
        server.shutdown.cancel();
        server.ends().await;
    };
    let refused = [401, 403].map(|status| async move {
        let server = Server::start().await;
        let refuse = |faults: &mut Faults| faults.status = Some(status);
        server.api_server.faults(TOKEN, refuse);
        server.shutdown.cancel();
        server.ends().await;
    });
    join!(deleted_after_the_release, deleted_before, join_all(refused));
}

#[tokio::test]
async fn a_pod_that_is_not_about_to_end_keeps_its_clients_without_a_lease() {
    let mut server = Server::start().await;
    server.api_server.delete();
    // Twice as long as a pod that is about to end would wait.
    sleep(Duration::from_secs(10)).await;
    assert!(!server.running.is_finished());
    let read = timeout(Duration::from_millis(100), server.waiting.read(&mut [0])).await;
    assert!(read.is_err(), "the connection was closed");
}
