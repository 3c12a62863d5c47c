//! The socket of a client, behind a gate that lets out only grants.
//!
//! Old clients take *any* answer for their turn. hyper answers some things by
//! itself, with 400 to a bad request line, say; so each byte has to pass here, and
//! what was not authorised closes the connection instead.
//!
//! The gate also reads ahead while a client waits: hyper does not see the end
//! of a connection while its buffer holds something unread.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tracing::warn;

use crate::clock;
use crate::permit::Permit;

/// What hyper says to a client that asks whether to send its body. It is kept
/// back: nothing comes before a grant. Clients send their body all the same,
/// after a moment.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client that sends more than this while it waits is cut off.
const MOST_AHEAD: usize = 4 * 1024;

/// A grant that the peer's kernel does not acknowledge within this time must
/// not arrive later: when a cut network heals, old grants would come at once.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(1);

/// A peer that vanished is noticed within 10 + 3 * 5 seconds.
pub(crate) const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// One client's socket. Clones share it: hyper has one, the handler another.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    state: Mutex<State>,
    /// Given back when the connection ends.
    _seat: OwnedSemaphorePermit,
}

/// The right to write one answer.
#[derive(Debug)]
enum Pass {
    /// Only what says 200.
    Grant(Permit),
    /// Only what says 429 or 400, to a client that opted in to them.
    Refusal,
}

#[derive(Debug, Default)]
struct State {
    pass: Option<Pass>,
    /// When the time limit of the last grant may go: a next request alone, which
    /// may have been sent before, proves nothing about its acknowledgement.
    lift: Option<Pin<Box<Sleep>>>,
    /// What was read ahead and hyper has not asked for yet.
    ahead: Vec<u8>,
}

impl Gate {
    /// Puts a gate before a socket, which takes a seat among all connections.
    ///
    /// # Errors
    ///
    /// When the socket is closed already.
    pub fn new(stream: TcpStream, seat: OwnedSemaphorePermit) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        // While an older answer could not even be sent, as the client does not
        // read, none is taken: its bytes would pile up and come all at once.
        socket.set_tcp_notsent_lowat(1)?;
        Ok(Self(Arc::new(Inner {
            stream,
            state: Mutex::default(),
            _seat: seat,
        })))
    }

    /// Opens the gate for one grant.
    pub fn authorise(&self, permit: Permit) {
        self.state().pass = Some(Pass::Grant(permit));
    }

    /// Opens the gate for one refusal, to a client that opted in.
    pub fn authorise_refusal(&self) {
        self.state().pass = Some(Pass::Refusal);
    }

    /// Waits until the client hangs up, or sends more than may be kept.
    pub fn gone(&self) -> impl Future<Output = ()> {
        // `async` blocks would take more memory, and those who wait are many.
        poll_fn(|cx| self.poll_gone(cx))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if let Some(lift) = &mut state.lift
            && lift.as_mut().poll(cx).is_ready()
        {
            // The earlier grant was acknowledged, or the kernel had ended this.
            let _ = SockRef::from(&self.0.stream).set_tcp_user_timeout(None);
            state.lift = None;
        }
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a whole answer or nothing: what a socket does not take at once
    /// would arrive at a time that nobody knows.
    fn write(&self, answer: &[u8]) -> io::Result<usize> {
        let status = answer.strip_prefix(b"HTTP/1.").and_then(|a| a.get(2..5));
        let permit = match (self.state().pass.take(), status) {
            (Some(Pass::Grant(permit)), Some(b"200")) => permit,
            (Some(Pass::Refusal), Some(b"429" | b"400")) => return self.write_whole(answer),
            _ => return Err(io::Error::other("this was not authorised")),
        };
        let socket = SockRef::from(&self.0.stream);
        // What the kernel knows now, not what epoll last told.
        if let Ok(0) = socket.peek(&mut [MaybeUninit::uninit()]) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_WITHIN))?;
        if !permit.is_valid(clock::now()) {
            return Err(io::Error::other("the right to grant has ended"));
        }
        let written = match self.write_whole(answer) {
            // Not a byte of it; a part of it may be taken for all by some.
            Err(error) if error.kind() != io::ErrorKind::WriteZero => return Err(error),
            written => written,
        };
        self.state().lift = Some(Box::pin(sleep(ACKNOWLEDGE_WITHIN * 2)));
        let at = clock::now();
        if !permit.is_relayed() && !permit.is_valid(at) {
            // No program can close this gap, but people shall know of it.
            warn!(
                "a grant may have been written after the right to it had ended: this process was \
                 stopped in that very moment"
            );
        }
        permit.written(at);
        written
    }

    fn write_whole(&self, answer: &[u8]) -> io::Result<usize> {
        match self.0.stream.try_write(answer)? {
            written if written < answer.len() => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }
}

impl Read for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
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
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            // hyper's buffer is uninitialised; a small one of our own keeps
            // this free of unsafe code, and requests are small.
            let mut chunk = [0; 2048];
            let most = chunk.len().min(buf.remaining());
            match self.0.stream.try_read(&mut chunk[..most]) {
                Ok(n) => {
                    buf.put_slice(&chunk[..n]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Gate {
    /// hyper hands over the head and the body of a small answer in one piece,
    /// as this does not say that it could write them separately.
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(match buf {
            CONTINUE => Ok(CONTINUE.len()),
            answer => self.write(answer),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::handle::Event;
    use crate::moment::Moment;
    use crate::pacer::{Grant, WaiterId};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    async fn pair() -> (Gate, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (server, _) = listener.accept().await.unwrap();
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (Gate::new(server, seat).unwrap(), client.unwrap())
    }

    fn grant() -> Grant {
        Grant {
            waiter: WaiterId(7),
            shard: 0,
            bucket: 0,
            arrived: Moment::ZERO,
            allowed: Moment::ZERO,
        }
    }

    async fn write(gate: &mut Gate, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *gate).poll_write(cx, bytes)).await
    }

    #[tokio::test]
    async fn a_grant_goes_out_once_and_says_when() {
        let (events, mut reports) = unbounded_channel();
        let (mut gate, mut client) = pair().await;
        let before = clock::now();
        gate.authorise(Permit::own(grant(), Moment::from_nanos(u64::MAX), events));
        assert_eq!(write(&mut gate, ANSWER).await.unwrap(), ANSWER.len());
        let Some(Event::Written { at, .. }) = reports.recv().await else {
            panic!("not written");
        };
        assert!(at >= before && at <= clock::now());
        write(&mut gate, ANSWER).await.unwrap_err();
        drop(gate);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, ANSWER);
    }

    #[tokio::test]
    async fn nothing_goes_out_without_a_permit() {
        let (mut gate, mut client) = pair().await;
        write(&mut gate, ANSWER).await.unwrap_err();
        drop(gate);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"");
    }

    #[tokio::test]
    async fn a_grant_whose_leader_was_frozen_beyond_its_right_is_not_written() {
        let (events, mut reports) = unbounded_channel();
        let (mut gate, _client) = pair().await;
        gate.authorise(Permit::own(grant(), clock::now(), events));
        write(&mut gate, ANSWER).await.unwrap_err();
        assert!(matches!(reports.recv().await, Some(Event::Unwritten(_))));
    }

    #[tokio::test]
    async fn a_relayed_grant_is_not_written_after_a_gap() {
        let beat = Arc::new(crate::beat::Beat::new(Duration::ZERO));
        let (mut gate, _client) = pair().await;
        gate.authorise(Permit::relayed(beat.hold()));
        write(&mut gate, ANSWER).await.unwrap();
        gate.authorise(Permit::relayed(beat.hold()));
        beat.beat(clock::now() + Duration::from_secs(1));
        write(&mut gate, ANSWER).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_pass_is_for_its_own_kind_of_answer() {
        let (events, mut reports) = unbounded_channel();
        let bad = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        let late = b"HTTP/1.0 429 Too Many Requests\r\n\r\n";
        let (mut gate, _client) = pair().await;
        gate.authorise(Permit::own(grant(), Moment::from_nanos(u64::MAX), events));
        write(&mut gate, bad).await.unwrap_err();
        assert!(matches!(reports.recv().await, Some(Event::Unwritten(_))));
        for (answer, authorised) in [(&bad[..], true), (&late[..], true), (ANSWER, false)] {
            gate.authorise_refusal();
            assert_eq!(write(&mut gate, answer).await.is_ok(), authorised);
            write(&mut gate, answer).await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_grant_for_a_client_that_has_just_gone_is_not_written() {
        let (events, mut reports) = unbounded_channel();
        let (mut gate, client) = pair().await;
        drop(client);
        gate.authorise(Permit::own(grant(), Moment::from_nanos(u64::MAX), events));
        write(&mut gate, ANSWER).await.unwrap_err();
        assert!(matches!(
            reports.recv().await,
            Some(Event::Unwritten(WaiterId(7)))
        ));
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_read_first_and_then_the_rest() {
        let (mut gate, mut client) = pair().await;
        client.write_all(b"ahead").await.unwrap();
        let looked = tokio::time::timeout(Duration::from_millis(50), gate.gone()).await;
        assert!(looked.is_err());
        client.write_all(b", rest").await.unwrap();
        let mut received = Vec::new();
        while received.len() < 11 {
            let mut buffer = [0; 4];
            let mut buffer = hyper::rt::ReadBuf::new(&mut buffer);
            poll_fn(|cx| Pin::new(&mut gate).poll_read(cx, buffer.unfilled()))
                .await
                .unwrap();
            received.extend_from_slice(buffer.filled());
        }
        assert_eq!(received, b"ahead, rest");
    }

    #[tokio::test]
    async fn who_sends_without_end_while_it_waits_is_gone() {
        let (gate, mut client) = pair().await;
        let flood =
            tokio::spawn(async move { while client.write_all(&[b'x'; 4096]).await.is_ok() {} });
        gate.gone().await;
        drop(gate);
        flood.await.unwrap();
    }
}
