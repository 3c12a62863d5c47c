//! The socket of a client, behind a gate that lets out only grants.
//!
//! Old clients take *any* answer for their turn. hyper answers some things by
//! itself, with 400 to a bad request line, say; so each message has to pass here, and
//! what was not authorised closes the connection instead.
//!
//! The gate also reads ahead while a client waits: hyper does not see the end
//! of a connection while its buffer holds something unread. And it closes the
//! connection of a client that is too slow to ask, or that has been idle for long.

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

/// A client has this long for the head of a request, from its connection or from
/// the first byte after an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection is kept for a next request. Pools of clients keep theirs
/// for 90 s at most; who ends it first must be the client, or its request is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A client that sends more than this while it waits is cut off.
const MOST_AHEAD: usize = 4 * 1024;

/// A grant that the peer's kernel does not acknowledge within this time must
/// not arrive later: when a cut network heals, old grants would come at once.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(1);

/// One client's socket. Clones share it: hyper has one, the handler another.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    state: Mutex<State>,
    /// Tells the connection that has been idle for the longest to end.
    crowded: Arc<Notify>,
    /// Given back when the connection ends.
    _seat: OwnedSemaphorePermit,
}

/// The right to write one answer.
#[derive(Debug)]
struct Pass {
    kind: PassKind,
    /// How many bytes come behind the head.
    body_bytes: usize,
}

#[derive(Debug)]
enum PassKind {
    /// A grant.
    Grant(Permit),
    /// A refusal, to a client that opted in to it.
    Refusal,
    /// An answer to a probe, to a queue that knows the name of this leader.
    Presence,
}

impl Pass {
    fn allows(&self, status: [u8; 3]) -> bool {
        match self.kind {
            PassKind::Grant(_) => &status == b"200",
            PassKind::Refusal => &status == b"429" || &status == b"400",
            PassKind::Presence => &status == b"204",
        }
    }
}

/// How long the client may take for what it has to do next.
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
    pass: Option<Pass>,
    /// What hyper has written of a message that is not whole yet.
    unsent: Vec<u8>,
    /// There is none while a request is served.
    limit: Option<Limit>,
    /// Since an answer, nothing came.
    idle: bool,
    /// When the time limit of the last grant may go: a next request alone, which
    /// may have been sent before, proves nothing about its acknowledgement.
    lift: Option<Pin<Box<Sleep>>>,
    /// What was read ahead and hyper has not asked for yet.
    ahead: Vec<u8>,
}

impl Gate {
    /// Puts a gate before a socket, which takes a seat among all connections. Of
    /// those that are idle, `crowded` ends the one that is so for the longest.
    ///
    /// # Errors
    ///
    /// When the socket is closed already.
    pub fn new(
        stream: TcpStream,
        seat: OwnedSemaphorePermit,
        crowded: Arc<Notify>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        // While an older answer could not even be sent, as the client does not
        // read, none is taken: its bytes would pile up and come all at once.
        socket.set_tcp_notsent_lowat(1)?;
        Ok(Self(Arc::new(Inner {
            stream,
            state: Mutex::new(State {
                limit: Some(Limit::head()),
                ..State::default()
            }),
            crowded,
            _seat: seat,
        })))
    }

    /// The head of a request is here: how long it waits is no longer up to the client.
    pub fn request_began(&self) {
        let mut state = self.state();
        state.limit = None;
        state.idle = false;
    }

    /// Opens the gate for one grant with a body of this length.
    pub fn authorise(&self, permit: Permit, body_bytes: usize) {
        self.state().pass = Some(Pass {
            kind: PassKind::Grant(permit),
            body_bytes,
        });
    }

    /// Opens the gate for one refusal with a body of this length, to a client that
    /// opted in.
    pub fn authorise_refusal(&self, body_bytes: usize) {
        self.state().pass = Some(Pass {
            kind: PassKind::Refusal,
            body_bytes,
        });
    }

    /// Opens the gate for one answer to a probe.
    pub fn authorise_presence(&self) {
        self.state().pass = Some(Pass {
            kind: PassKind::Presence,
            body_bytes: 0,
        });
    }

    /// Waits until the client hangs up, or sends more than may be kept.
    pub fn gone(&self) -> impl Future<Output = ()> {
        // `async` blocks would take more memory, and those who wait are many.
        poll_fn(|cx| self.poll_gone(cx))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        self.poll_lift(&mut state, cx);
        loop {
            if ready!(self.0.stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            let mut chunk = [0; 1024];
            match self.0.stream.try_read(&mut chunk) {
                Ok(0) => return Poll::Ready(()),
                Ok(n) if state.ahead.len() + n > MOST_AHEAD => return Poll::Ready(()),
                Ok(n) => state.ahead.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Lifts the time limit of the last grant once it must have been acknowledged.
    fn poll_lift(&self, state: &mut State, cx: &mut Context<'_>) {
        if let Some(lift) = &mut state.lift
            && lift.as_mut().poll(cx).is_ready()
        {
            // If it was not, the kernel has ended this connection.
            let _ = SockRef::from(&self.0.stream).set_tcp_user_timeout(None);
            state.lift = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what hyper writes, and sends each answer as soon as it is whole.
    ///
    /// `100 Continue` is kept back: nothing comes before a grant. Clients send
    /// their body all the same, after a moment.
    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let mut unsent = mem::take(&mut self.state().unsent);
        unsent.extend_from_slice(bytes);
        while let Some(head) = framing::head(&unsent)? {
            if head.is_interim() {
                unsent.drain(..head.bytes);
                continue;
            }
            let pass = self.state().pass.take();
            let Some(pass) = pass.filter(|pass| pass.allows(head.status)) else {
                return Err(io::Error::other("this was not authorised"));
            };
            let end = head.bytes + pass.body_bytes;
            if unsent.len() < end {
                self.state().pass = Some(pass);
                break;
            }
            self.send(pass, &unsent[..end])?;
            unsent.drain(..end);
            let mut state = self.state();
            state.limit = Some(Limit::idle(Arc::clone(&self.0.crowded)));
            state.idle = true;
        }
        if unsent.len() > MAX_MESSAGE_BYTES {
            return Err(io::Error::other("this is longer than any answer"));
        }
        if !unsent.is_empty() {
            self.state().unsent = unsent;
        }
        Ok(())
    }

    /// Writes a whole answer or nothing: what a socket does not take at once
    /// would arrive at a time that nobody knows.
    fn send(&self, pass: Pass, answer: &[u8]) -> io::Result<()> {
        let PassKind::Grant(permit) = pass.kind else {
            return self.write_whole(answer);
        };
        if self.has_gone() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        SockRef::from(&self.0.stream).set_tcp_user_timeout(Some(ACKNOWLEDGE_WITHIN))?;
        if !permit.is_valid(boot_time::now()) {
            return Err(io::Error::other("the right to grant has ended"));
        }
        let written = match self.write_whole(answer) {
            // Not a byte of it; a part of it may be taken for all by some.
            Err(error) if error.kind() != io::ErrorKind::WriteZero => return Err(error),
            written => written,
        };
        self.state().lift = Some(Box::pin(sleep(ACKNOWLEDGE_WITHIN * 2)));
        let at = boot_time::now();
        if !permit.is_relayed() && !permit.is_valid(at) {
            // No program can close this gap, so it is logged.
            let detail = "the process was suspended while it wrote the grant";
            warn!(detail, "grant possibly written too late");
        }
        permit.written(at);
        written
    }

    /// Whether the client has closed its end: what the kernel knows now, not what
    /// epoll last reported, and also when something unread comes before it.
    fn has_gone(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.0.stream, gone)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let polled = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
        polled.is_ok() && fds[0].revents().intersects(gone)
    }

    fn write_whole(&self, answer: &[u8]) -> io::Result<()> {
        match self.0.stream.try_write(answer)? {
            written if written < answer.len() => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }

    fn poll_stream(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        {
            let ahead = &mut self.state().ahead;
            if !ahead.is_empty() {
                let n = ahead.len().min(buf.remaining());
                buf.put_slice(&ahead[..n]);
                ahead.drain(..n);
                if ahead.is_empty() {
                    *ahead = Vec::new();
                }
                return Poll::Ready(Ok(n));
            }
        }
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            // hyper's buffer is uninitialised; a small one of our own keeps
            // this free of unsafe code, and requests are small.
            let mut chunk = [0; 2048];
            let most = chunk.len().min(buf.remaining());
            match self.0.stream.try_read(&mut chunk[..most]) {
                Ok(n) => {
                    buf.put_slice(&chunk[..n]);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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
                Poll::Ready(read.map(|_| ()))
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
        let taken = self.take(buf);
        // hyper has asked for the next request before its answer, and does not ask
        // again by itself; only then the time limit is looked at.
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
