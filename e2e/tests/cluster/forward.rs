//! A Service's port on this machine, by `kubectl port-forward`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::kubectl::Namespace;

/// Lives as long as the forwarding does.
pub(crate) struct Forward {
    kubectl: Child,
    /// It prints a line for each connection, and dies when it cannot.
    _said: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Forward {
    /// To the port 80 of a Service.
    pub(crate) fn to(namespace: &Namespace, service: &str) -> Self {
        let target = format!("service/{service}");
        let mut kubectl = namespace
            .command(&["port-forward", "--address=127.0.0.1", &target, ":80"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(kubectl.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("kubectl port-forward said {line:?}"));
        Self {
            kubectl,
            _said: said,
            address,
        }
    }

    /// Sends a request and reads all that comes until the other side closes, which
    /// may be later than the last byte. When that came, too.
    pub(crate) fn exchange(&self, request: &str) -> (String, Instant) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut came) = (Vec::new(), Instant::now());
        let mut chunk = [0; 1024];
        loop {
            match stream.read(&mut chunk).unwrap() {
                0 => return (String::from_utf8(answer).unwrap(), came),
                read => answer.extend_from_slice(&chunk[..read]),
            }
            came = Instant::now();
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
