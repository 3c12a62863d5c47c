//! The socket of a client.
//!
//! A grant is written completely or not at all, and only while its permit is valid and the
//! client is connected. If the network is cut, it is not delivered when the network heals.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tracing::warn;

use crate::clock::boot_time;
use crate::queue::messages::Permit;

/// A grant that the peer's kernel does not acknowledge within this time must not arrive
/// later: when a partition of the network heals, old grants would arrive at the same time.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much is read at a time.
const READ_BYTES: usize = 8 * 1024;

/// The socket of a client.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// When to end the acknowledgement timeout of the last grant and turn keepalive on again. A
    /// next request proves no acknowledgement: it may have been sent before.
    lift: Option<Pin<Box<Sleep>>>,
    /// Released when the connection ends.
    _permit: OwnedSemaphorePermit,
}

impl Socket {
    /// Returns the socket of a connection that has this permit.
    pub(crate) fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> io::Result<Self> {
        // While a client does not read and an older response is not sent, no new one is
        // accepted: the responses would arrive together.
        SockRef::from(&stream).set_tcp_notsent_lowat(1)?;
        Ok(Self {
            stream,
            lift: None,
            _permit: permit,
        })
    }

    /// Reads at most `max` bytes, and returns what `take` makes of them. At the end of the
    /// connection they are empty. Their memory is on the stack, so that a waiting client takes
    /// none.
    pub(crate) fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut memory = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut received = ReadBuf::uninit(&mut memory[..max.min(READ_BYTES)]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut received))?;
        Poll::Ready(Ok(take(received.filled())))
    }

    /// Ends the acknowledgement timeout once the last grant must have been acknowledged, and turns
    /// keepalive on again. Must be polled while a request waits, or a lost client is not noticed;
    /// not while the connection is idle, because a timer for each grant would cost too much.
    pub(crate) fn poll_lift(&mut self, cx: &mut Context<'_>) {
        if let Some(lift) = &mut self.lift
            && lift.as_mut().poll(cx).is_ready()
        {
            // If it was not, the kernel has closed the connection.
            let socket = SockRef::from(&self.stream);
            let _ = socket.set_tcp_user_timeout(None);
            let _ = socket.set_keepalive(true);
            self.lift = None;
        }
    }

    /// Writes a complete response or nothing: the rest would arrive at an unknown time.
    pub(crate) fn write(&self, response: &[u8]) -> io::Result<()> {
        match self.stream.try_write(response)? {
            written if written < response.len() => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }

    /// Writes a grant, if its permit is valid and the client is connected.
    pub(crate) fn write_grant(&mut self, permit: Permit, response: &[u8]) -> io::Result<()> {
        if self.has_disconnected() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let socket = SockRef::from(&self.stream);
        // With this timeout, the first keepalive probe that is lost would close the connection.
        socket.set_keepalive(false)?;
        socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT))?;
        if !permit.is_valid(boot_time::now()) {
            return Err(io::Error::other("the right to grant has ended"));
        }
        let written = match self.write(response) {
            // Nothing was written. A part of it may be treated as a grant by some clients.
            Err(error) if error.kind() != io::ErrorKind::WriteZero => return Err(error),
            written => written,
        };
        self.lift = Some(Box::pin(sleep(ACKNOWLEDGE_TIMEOUT * 2)));
        let at = boot_time::now();
        if !permit.is_relayed() && !permit.is_valid(at) {
            // No program can close this gap, so it is logged.
            let detail = "the process was suspended while it wrote the grant";
            warn!(detail, "grant possibly written too late");
        }
        permit.written(at);
        written
    }

    /// Whether the client has closed its end. Asks the kernel, because epoll reports it late,
    /// and not before unread data.
    fn has_disconnected(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.stream, gone)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let polled = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
        polled.is_ok() && fds[0].revents().intersects(gone)
    }
}

#[cfg(test)]
pub(super) mod tests;
