//! A leader that answers as the test wants.

use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::protocol::GRANT;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::pod::{LONG, Pod};

/// A leader that answers a hop only as it is told to.
pub(crate) struct FakeLeader(TcpListener);

impl FakeLeader {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn lead(&self, follower: &Pod) {
        let leader = Leader {
            holder: "fake".to_owned(),
            address: self.0.local_addr().unwrap(),
        };
        follower.stand(None, Some(leader));
    }

    /// The next hop, heard.
    pub(crate) async fn hop(&self) -> TcpStream {
        let (mut hop, _) = timeout(LONG, self.0.accept()).await.unwrap().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(hop.read_buf(&mut head).await.unwrap(), 0);
        }
        hop
    }

    /// Grants without letting the follower run.
    pub(crate) fn grant(hop: &TcpStream) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", GRANT.len());
        let grant = [head.as_bytes(), GRANT].concat();
        assert_eq!(hop.try_write(&grant).unwrap(), grant.len());
    }
}
