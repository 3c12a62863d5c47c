//! A Service's port on this machine, by `kubectl port-forward`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::kubectl::Namespace;

/// A running `kubectl port-forward`, ended when dropped.
pub(crate) struct PortForward {
    kubectl: Child,
    /// kubectl prints a line for each connection, and exits if it cannot.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl PortForward {
    /// Forwards to port 80 of a Service.
    pub(crate) fn to(namespace: &Namespace, service: &str) -> Self {
        let target = format!("service/{service}");
        let mut kubectl = namespace
            .command(&["port-forward", "--address=127.0.0.1", &target, ":80"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(kubectl.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("kubectl port-forward printed {line:?}"));
        Self {
            kubectl,
            _stdout: stdout,
            address,
        }
    }

    /// Sends a request, and reads until the other side closes, which may be later than the last
    /// byte. Returns the response and the time of its last byte.
    pub(crate) fn exchange(&self, request: &str) -> (String, Instant) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let (mut response, mut last_byte) = (Vec::new(), Instant::now());
        let mut chunk = [0; 1024];
        loop {
            match stream.read(&mut chunk).unwrap() {
                0 => return (String::from_utf8(response).unwrap(), last_byte),
                read => response.extend_from_slice(&chunk[..read]),
            }
            last_byte = Instant::now();
        }
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
