//! A connection of a client: reads one request, sends its response, and again.
//!
//! Only what has been received beyond the current request, or a part of a head, is kept. So a
//! client that waits takes little memory.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gateway_queue_core::protocol::body::Body;
use gateway_queue_core::protocol::head::{self, Head, MAX_HEAD_BYTES, ResponseForm};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::clock::boot_time;
use crate::serving::response::Response;
use crate::serving::socket::Socket;

/// How long the head of a request may take, from the connection or from the first byte
/// after a response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be idle. The pools of clients keep theirs for at most 90 s, and
/// the client must close it first, or its next request is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A client that sends more than this while it waits is disconnected: more than one head.
const MAX_AHEAD_BYTES: usize = MAX_HEAD_BYTES;

/// A connection of a client. It is closed when it is dropped, which follows any error.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    /// What was received and not used yet.
    ahead: Vec<u8>,
    /// Closes the connection that has been idle longest.
    crowded: Arc<Notify>,
    has_responded: bool,
}

impl Connection {
    /// Returns a connection with its permit. `crowded` closes the connection that has been idle
    /// longest.
    pub(crate) fn new(
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        crowded: Arc<Notify>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::new(stream, permit)?,
            ahead: Vec::new(),
            crowded,
            has_responded: false,
        })
    }

    /// Reads the head of the next request.
    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        let head = self.next_head().await;
        // Only a grant must be acknowledged within a second: not another response, nor the end of
        // the connection.
        poll_fn(|cx| {
            self.socket.poll_lift(cx);
            Poll::Ready(())
        })
        .await;
        head
    }

    async fn next_head(&mut self) -> io::Result<Head> {
        // Clients may send requests without waiting for the responses.
        if let Some(head) = take_head(&mut self.ahead, &[])? {
            return Ok(head);
        }
        if self.has_responded
            && self.ahead.is_empty()
            && let Some(head) = self.idle().await?
        {
            return Ok(head);
        }
        timeout(HEAD_TIMEOUT, poll_fn(|cx| self.poll_head(cx))).await?
    }

    /// Waits for the first bytes of the next request, and returns its head if they contain it.
    async fn idle(&mut self) -> io::Result<Option<Head>> {
        let crowded = Arc::clone(&self.crowded);
        tokio::select! {
            biased;
            read = poll_fn(|cx| self.poll_part_of_head(cx)) => return read,
            () = sleep(IDLE_TIMEOUT) => {}
            () = crowded.notified() => {}
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Head>> {
        loop {
            if let Some(head) = ready!(self.poll_part_of_head(cx))? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    fn poll_part_of_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Head>>> {
        let Self { socket, ahead, .. } = self;
        // A part of a head is shorter than the longest one.
        let max = MAX_HEAD_BYTES.saturating_sub(ahead.len());
        socket
            .poll_read(cx, max, |received| take_head(ahead, not_the_end(received)?))
            .map(Result::flatten)
    }

    /// Reads a body to its end.
    pub(crate) async fn discard(&mut self, mut body: Body) -> io::Result<()> {
        let read = body.read(&self.ahead)?;
        if read > 0 {
            self.ahead = self.ahead[read..].to_vec();
        }
        if body.is_complete() {
            return Ok(());
        }
        timeout(BODY_TIMEOUT, poll_fn(|cx| self.poll_body(cx, &mut body))).await?
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, body: &mut Body) -> Poll<io::Result<()>> {
        let Self { socket, ahead, .. } = self;
        while !body.is_complete() {
            let read = socket.poll_read(cx, usize::MAX, |received| {
                let received = not_the_end(received)?;
                let read = body.read(received)?;
                *ahead = received[read..].to_vec();
                Ok::<_, io::Error>(())
            });
            ready!(read)??;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the client disconnects, or sends more than is read ahead.
    pub(crate) fn disconnected(&mut self) -> impl Future<Output = ()> {
        // An `async` block would take more memory for each waiting client.
        poll_fn(|cx| self.poll_disconnected(cx))
    }

    fn poll_disconnected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { socket, ahead, .. } = self;
        socket.poll_lift(cx);
        while ahead.len() <= MAX_AHEAD_BYTES {
            let max = MAX_AHEAD_BYTES + 1 - ahead.len();
            let read = socket.poll_read(cx, max, |received| {
                ahead.reserve_exact(received.len());
                ahead.extend_from_slice(received);
                received.len()
            });
            if !matches!(ready!(read), Ok(1..)) {
                break;
            }
        }
        Poll::Ready(())
    }

    /// Sends the response to a request.
    pub(crate) fn send(&mut self, response: Response, form: ResponseForm) -> io::Result<()> {
        let bytes = response.bytes(form, boot_time::wall());
        self.has_responded = true;
        match response {
            Response::Grant(permit) => self.socket.write_grant(permit, &bytes),
            _ => self.socket.write(&bytes),
        }
    }
}

/// Returns the next head, if `ahead` and what was received now contain it. What follows it, or
/// else all, is in `ahead` then.
fn take_head(ahead: &mut Vec<u8>, received: &[u8]) -> io::Result<Option<Head>> {
    // Usually a head arrives as a whole, and needs no memory.
    let is_part = !ahead.is_empty();
    if is_part {
        ahead.reserve_exact(
            received
                .len()
                .max(MAX_HEAD_BYTES.saturating_sub(ahead.len())),
        );
        ahead.extend_from_slice(received);
        // Only a line feed ends a head. A client that sends byte by byte would cost much.
        let is_new = received.contains(&b'\n') || received.is_empty();
        if !is_new && ahead.len() < MAX_HEAD_BYTES {
            return Ok(None);
        }
    }
    let kept = mem::take(ahead);
    let bytes = if is_part { kept.as_slice() } else { received };
    let head = head::parse(bytes)?;
    let used = head.as_ref().map_or(0, |head| head.bytes);
    *ahead = bytes[used..].to_vec();
    Ok(head)
}

/// Returns what was received, unless the client has closed its half of the connection.
fn not_the_end(received: &[u8]) -> io::Result<&[u8]> {
    if received.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(received)
}

#[cfg(test)]
pub(super) mod tests;
