//! Many clients in one thread.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// How many events are read at a time.
const EVENTS: usize = 256;

/// Clients, each with a connection and a shard: the number of the client.
pub(crate) struct Clients {
    epoll: OwnedFd,
    streams: Vec<TcpStream>,
    events: Vec<epoll::Event>,
    host: String,
}

/// A grant that a client has received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) shard: u32,
    pub(crate) at: Instant,
}

impl Clients {
    /// Returns no clients yet, of the server at this address.
    pub(crate) fn new(server: SocketAddr) -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?,
            streams: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            host: server.to_string(),
        })
    }

    /// Connects this many more clients, which send nothing yet.
    pub(crate) fn connect(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            self.connect_one()?;
        }
        Ok(())
    }

    /// Connects this many more clients. Each sends its request at once.
    pub(crate) fn connect_and_ask(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            let shard = self.connect_one()?;
            self.ask(shard)?;
        }
        Ok(())
    }

    /// Sends the request of a shard. Returns the instant before that.
    pub(crate) fn ask(&mut self, shard: u32) -> Result<Instant> {
        // As large as that of a common HTTP client.
        let request = format!(
            "GET /?shard={shard} HTTP/1.1\r\nhost: {}\r\nuser-agent: python-requests/2.32.5\r\n\
             accept-encoding: gzip, deflate\r\naccept: */*\r\nconnection: keep-alive\r\n\r\n",
            self.host
        );
        let stream = self
            .streams
            .get_mut(shard as usize)
            .context("no such client")?;
        let at = Instant::now();
        let sent = stream.write_all(request.as_bytes());
        sent.with_context(|| format!("sending the request of shard {shard}"))?;
        Ok(at)
    }

    /// Returns the grants that were received before this call.
    pub(crate) fn received(&mut self) -> Result<Vec<Received>> {
        let mut received = Vec::new();
        while self.read(Duration::ZERO, &mut received)? {}
        Ok(received)
    }

    /// Receives grants until `until`, or until `received` has `count` of them.
    pub(crate) fn receive(
        &mut self,
        until: Instant,
        count: usize,
        received: &mut Vec<Received>,
    ) -> Result<()> {
        while received.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.read(left, received)?;
        }
        Ok(())
    }

    /// Receives the grants of the first `shards`, also those that `received` has already.
    pub(crate) fn receive_all(
        &mut self,
        until: Instant,
        shards: u32,
        received: &mut Vec<Received>,
    ) -> Result<()> {
        self.receive(until, shards as usize, received)?;
        let granted = received.len();
        ensure!(
            granted == shards as usize,
            "only {granted} of {shards} shards were granted"
        );
        Ok(())
    }

    fn connect_one(&mut self) -> Result<u32> {
        let shard = u32::try_from(self.streams.len()).context("too many clients")?;
        let stream = TcpStream::connect(&self.host);
        let stream = stream.with_context(|| format!("connecting client {shard}"))?;
        stream
            .set_nonblocking(true)
            .context("setting up a client")?;
        let data = epoll::EventData::new_u64(shard.into());
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)
            .context("watching a client")?;
        self.streams.push(stream);
        Ok(shard)
    }

    /// Waits for events, and reads the responses. Returns whether there were any events.
    fn read(&mut self, timeout: Duration, received: &mut Vec<Received>) -> Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error).context("waiting for grants"),
        }
        for event in &self.events {
            let shard = event.data.u64() as u32;
            let stream = self
                .streams
                .get_mut(shard as usize)
                .context("no such client")?;
            let mut response = [0; 1024];
            let length = match stream.read(&mut response) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).with_context(|| format!("reading shard {shard}")),
            };
            let at = Instant::now();
            if !response[..length].starts_with(b"HTTP/1.1 200 ") {
                let text = String::from_utf8_lossy(&response[..length]);
                bail!("shard {shard} received no grant but {text:?}");
            }
            // The client stays connected. What follows its grant does not matter.
            epoll::delete(&self.epoll, &*stream).context("ignoring a client")?;
            received.push(Received { shard, at });
        }
        Ok(!self.events.is_empty())
    }
}
