//! The socket of a client, behind a gate that only authorized responses pass.
//!
//! Old clients treat any response as a grant, and hyper sends some responses by itself, such
//! as 400 to an invalid request line. So each message has to pass here, and one that was not
//! authorized closes the connection instead.
//!
//! The gate also reads ahead while a client waits, because hyper does not see the end of a
//! connection while its buffer is not empty. And it closes a connection that is too slow to
//! send a request, or that has been idle too long.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Sleep, sleep};
use tracing::warn;

use crate::clock::boot_time;
use crate::queue::messages::Permit;
use crate::serving::framing::{self, MAX_MESSAGE_BYTES};
use crate::tcp::KEEPALIVE;

/// How long the head of a request may take, from the connection or from the first byte
/// after a response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be idle. The pools of clients keep theirs for at most 90 s, and
/// the client must close it first, or its next request is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A client that sends more than this while it waits is disconnected.
const MAX_AHEAD_BYTES: usize = 4 * 1024;

/// A grant that the peer's kernel does not acknowledge within this time must not arrive
/// later: when a partition of the network heals, old grants would arrive at the same time.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The socket of a client. hyper and the request handler share it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    state: Mutex<State>,
    /// Closes the connection that has been idle longest.
    crowded: Arc<Notify>,
    /// Released when the connection ends.
    _permit: OwnedSemaphorePermit,
}

/// The right to write one response.
#[derive(Debug)]
pub(crate) enum Pass {
    /// A grant.
    Grant(Permit),
    /// A refusal, to a client with `wait` or `report`.
    Refusal,
    /// A response without content, to a report or to another pod.
    NoContent,
    /// The limits, or why they are unknown, to a follower that names this leader.
    Limits,
}

impl Pass {
    fn allows(&self, status: [u8; 3]) -> bool {
        match self {
            Self::Grant(_) => &status == b"200",
            Self::Refusal => &status == b"429" || &status == b"400",
            Self::NoContent => &status == b"204",
            Self::Limits => &status == b"200" || &status == b"503",
        }
    }
}

/// The time limit of what the client has to do next.
struct Limit(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Limit {
    fn head() -> Self {
        Self(Box::pin(sleep(HEAD_TIMEOUT)))
    }

    fn idle(crowded: Arc<Notify>) -> Self {
        Self(Box::pin(async move {
            tokio::select! {
                () = sleep(IDLE_TIMEOUT) => {}
                () = crowded.notified() => {}
            }
        }))
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limit")
    }
}

#[derive(Debug, Default)]
struct State {
    /// The authorized response, and the length of its body.
    pass: Option<(Pass, usize)>,
    /// The part of an incomplete message that hyper has written.
    unsent: Vec<u8>,
    /// None while a request is served.
    limit: Option<Limit>,
    /// Whether nothing was received since the last response.
    idle: bool,
    /// When to remove the acknowledgement timeout of the last grant. A next request proves
    /// no acknowledgement: it may have been sent before.
    lift: Option<Pin<Box<Sleep>>>,
    /// What was read ahead, and not yet by hyper.
    ahead: Vec<u8>,
}

impl Gate {
    /// Returns a gate before a socket, with its connection permit. `crowded` closes the
    /// connection that has been idle longest.
    pub(crate) fn new(
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        crowded: Arc<Notify>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        // While a client does not read and an older response is not sent, no new one is
        // accepted: the responses would arrive together.
        socket.set_tcp_notsent_lowat(1)?;
        Ok(Self(Arc::new(Inner {
            stream,
            state: Mutex::new(State {
                limit: Some(Limit::head()),
                ..State::default()
            }),
            crowded,
            _permit: permit,
        })))
    }

    /// Ends the time limit of the client: the head of a request has been received.
    pub(crate) fn request_began(&self) {
        let mut state = self.state();
        state.limit = None;
        state.idle = false;
    }

    /// Authorizes one response with a body of this length.
    pub(crate) fn authorize(&self, pass: Pass, body_bytes: usize) {
        self.state().pass = Some((pass, body_bytes));
    }

    /// Waits until the client disconnects, or sends more than is read ahead.
    pub(crate) fn disconnected(&self) -> impl Future<Output = ()> {
        // An `async` block would take more memory for each waiting client.
        poll_fn(|cx| self.poll_disconnected(cx))
    }

    fn poll_disconnected(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        self.poll_lift(&mut state, cx);
        let mut chunk = [0; 1024];
        loop {
            match ready!(self.poll_chunk(cx, &mut chunk)) {
                Ok(n @ 1..) if state.ahead.len() + n <= MAX_AHEAD_BYTES => {
                    state.ahead.extend_from_slice(&chunk[..n]);
                }
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Reads from the socket.
    fn poll_chunk(&self, cx: &mut Context<'_>, chunk: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Removes the acknowledgement timeout once the last grant must have been acknowledged.
    fn poll_lift(&self, state: &mut State, cx: &mut Context<'_>) {
        if let Some(lift) = &mut state.lift
            && lift.as_mut().poll(cx).is_ready()
        {
            // If it was not, the kernel has closed the connection.
            let _ = SockRef::from(&self.0.stream).set_tcp_user_timeout(None);
            state.lift = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts bytes from hyper, and sends each response as soon as it is complete.
    ///
    /// `100 Continue` is dropped: nothing precedes a grant. Clients send their body anyway,
    /// after a moment.
    fn accept(&self, bytes: &[u8]) -> io::Result<()> {
        let mut unsent = mem::take(&mut self.state().unsent);
        unsent.extend_from_slice(bytes);
        while let Some(head) = framing::head(&unsent)? {
            if head.is_interim() {
                unsent.drain(..head.bytes);
                continue;
            }
            let pass = self.state().pass.take();
            let Some((pass, body_bytes)) = pass.filter(|(pass, _)| pass.allows(head.status)) else {
                return Err(io::Error::other("this response was not authorized"));
            };
            let end = head.bytes + body_bytes;
            if unsent.len() < end {
                self.state().pass = Some((pass, body_bytes));
                break;
            }
            self.send(pass, &unsent[..end])?;
            unsent.drain(..end);
            let mut state = self.state();
            state.limit = Some(Limit::idle(Arc::clone(&self.0.crowded)));
            state.idle = true;
        }
        if unsent.len() > MAX_MESSAGE_BYTES {
            return Err(io::Error::other("this is longer than any response"));
        }
        if !unsent.is_empty() {
            self.state().unsent = unsent;
        }
        Ok(())
    }

    /// Writes a complete response or nothing: the rest would arrive at an unknown time.
    fn send(&self, pass: Pass, response: &[u8]) -> io::Result<()> {
        let Pass::Grant(permit) = pass else {
            return self.write_whole(response);
        };
        if self.has_disconnected() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        SockRef::from(&self.0.stream).set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT))?;
        if !permit.is_valid(boot_time::now()) {
            return Err(io::Error::other("the right to grant has ended"));
        }
        let written = match self.write_whole(response) {
            // Nothing was written. A part of it may be treated as a grant by some clients.
            Err(error) if error.kind() != io::ErrorKind::WriteZero => return Err(error),
            written => written,
        };
        self.state().lift = Some(Box::pin(sleep(ACKNOWLEDGE_TIMEOUT * 2)));
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
        let mut fds = [PollFd::new(&self.0.stream, gone)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let polled = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
        polled.is_ok() && fds[0].revents().intersects(gone)
    }

    fn write_whole(&self, response: &[u8]) -> io::Result<()> {
        match self.0.stream.try_write(response)? {
            written if written < response.len() => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }

    /// Reads what was read ahead, or else from the socket.
    fn poll_stream(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let ahead = &mut self.state().ahead;
            if !ahead.is_empty() {
                let n = ahead.len().min(buf.remaining());
                buf.put_slice(&ahead[..n]);
                ahead.drain(..n);
                if ahead.is_empty() {
                    *ahead = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
        }
        // hyper's buffer is uninitialized. A small one on the stack avoids unsafe code.
        let mut chunk = [0; 2048];
        let max = chunk.len().min(buf.remaining());
        let n = ready!(self.poll_chunk(cx, &mut chunk[..max]))?;
        buf.put_slice(&chunk[..n]);
        Poll::Ready(Ok(()))
    }
}

impl Read for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_stream(cx, &mut buf);
        let mut state = self.state();
        self.poll_lift(&mut state, cx);
        match read {
            Poll::Ready(read) => {
                if mem::take(&mut state.idle) {
                    state.limit = Some(Limit::head());
                }
                Poll::Ready(read)
            }
            Poll::Pending => match &mut state.limit {
                Some(limit) => {
                    ready!(limit.0.as_mut().poll(cx));
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                None => Poll::Pending,
            },
        }
    }
}

impl Write for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = self.accept(buf);
        // hyper polled for the next request before this response, and must do so again for
        // the time limit to be polled.
        cx.waker().wake_by_ref();
        Poll::Ready(taken.map(|()| buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests;
