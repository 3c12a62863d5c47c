use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, pause, resume};

use super::*;
use crate::serving::socket::tests::{FOR_EVER, awaits_acknowledgement, permit};
use crate::tcp::KEEPALIVE;

/// Returns a connection and its client.
pub(crate) async fn pair() -> (Connection, TcpStream) {
    pair_of(Arc::default()).await
}

async fn pair_of(crowded: Arc<Notify>) -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (server, _) = listener.accept().await.unwrap();
    SockRef::from(&server)
        .set_tcp_keepalive(&KEEPALIVE)
        .unwrap();
    server.writable().await.unwrap();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (
        Connection::new(server, permit, crowded).unwrap(),
        client.unwrap(),
    )
}

/// Reads the next request: its path, without the slash.
async fn path(connection: &mut Connection) -> io::Result<String> {
    let head = connection.head().await?;
    connection.discard(head.body).await?;
    Ok(head.uri.path()[1..].to_owned())
}

/// Serves a request without a body.
async fn served(connection: &mut Connection, client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let form = connection.head().await.unwrap().form;
    connection.send(Response::NoContent, form).unwrap();
}

/// Lets the time that this takes pass at once. The clock is not paused for longer, because
/// timeouts would pass before what was sent is read.
async fn skip<T>(waiting: impl Future<Output = T>) -> T {
    pause();
    let result = waiting.await;
    resume();
    result
}

/// Serves a request by a grant, and returns whether the grant still awaits its acknowledgement
/// when the head of the next request was read, this long after it.
async fn awaits_after(time: Duration, connection: &mut Connection, client: &mut TcpStream) -> bool {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    client.write_all(REQUEST).await.unwrap();
    let form = connection.head().await.unwrap().form;
    let (permit, _reports) = permit(FOR_EVER);
    connection.send(Response::Grant(permit), form).unwrap();
    skip(sleep(time)).await;
    assert!(awaits_acknowledgement(&connection.socket));
    client.write_all(REQUEST).await.unwrap();
    connection.head().await.unwrap();
    awaits_acknowledgement(&connection.socket)
}

#[tokio::test]
async fn the_next_request_ends_the_acknowledgement_timeout_of_a_grant() {
    let (mut connection, mut client) = pair().await;
    let late = Duration::from_secs(3);
    assert!(!awaits_after(late, &mut connection, &mut client).await);

    // It may have been sent before the grant arrived.
    let early = Duration::from_millis(500);
    assert!(awaits_after(early, &mut connection, &mut client).await);
    let waited = skip(timeout(late, connection.disconnected())).await;
    assert!(waited.is_err(), "closed");
    assert!(!awaits_acknowledgement(&connection.socket));
}

const REQUESTS: &str = "GET /a HTTP/1.1\r\nhost: q\r\n\r\n\r\n\
    POST /b HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc\
    PUT /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nx: y\r\n\r\n\
    GET /d HTTP/1.1\r\n\r\n";

#[tokio::test]
async fn requests_are_read_one_by_one_wherever_what_is_received_ends() {
    for end in 0..=REQUESTS.len() {
        let (mut connection, mut client) = pair().await;
        let (first, second) = REQUESTS.as_bytes().split_at(end);
        client.write_all(first).await.unwrap();
        let mut paths = Vec::new();
        let reading = async {
            while paths.len() < 4 {
                paths.push(path(&mut connection).await.unwrap());
            }
        };
        let writing = async {
            // Until the first part was read.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            client.write_all(second).await.unwrap();
        };
        tokio::join!(reading, writing);
        assert_eq!(paths, ["a", "b", "c", "d"], "{end}");
        assert_eq!(connection.ahead.capacity(), 0);
    }
}

#[tokio::test]
async fn each_byte_may_arrive_alone() {
    let (mut connection, mut client) = pair().await;
    client.set_nodelay(true).unwrap();
    let writing = async {
        for byte in REQUESTS.bytes() {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        for expected in ["a", "b", "c", "d"] {
            assert_eq!(path(&mut connection).await.unwrap(), expected);
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn an_invalid_request_and_a_closed_half_are_errors() {
    for (bytes, kind) in [
        ("nonsense\r\n\r\n", io::ErrorKind::Other),
        (
            "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            io::ErrorKind::Other,
        ),
        (
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx",
            io::ErrorKind::Other,
        ),
        ("", io::ErrorKind::UnexpectedEof),
        ("GET / HT", io::ErrorKind::UnexpectedEof),
        (
            "GET / HTTP/1.1\r\ncontent-length: 1\r\n\r\n",
            io::ErrorKind::UnexpectedEof,
        ),
    ] {
        let (mut connection, mut client) = pair().await;
        client.write_all(bytes.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let error = path(&mut connection).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{bytes}");
    }
}

#[tokio::test]
async fn what_arrives_while_a_client_waits_is_read_later() {
    let (mut connection, mut client) = pair().await;
    client.write_all(REQUESTS.as_bytes()).await.unwrap();
    assert_eq!(path(&mut connection).await.unwrap(), "a");
    client.write_all(b"GET /e HTTP/1.1\r\n\r\n").await.unwrap();
    let gone = timeout(Duration::from_millis(50), connection.disconnected()).await;
    assert!(gone.is_err());
    for expected in ["b", "c", "d", "e"] {
        assert_eq!(path(&mut connection).await.unwrap(), expected);
    }
    drop(client);
    connection.disconnected().await;
}

#[tokio::test]
async fn a_client_that_sends_more_than_8_kib_while_it_waits_is_disconnected() {
    let (mut connection, mut client) = pair().await;
    client.write_all(&[b'x'; MAX_AHEAD_BYTES]).await.unwrap();
    let gone = timeout(Duration::from_millis(50), connection.disconnected()).await;
    assert!(gone.is_err());
    assert_eq!(connection.ahead.capacity(), MAX_AHEAD_BYTES);
    client.write_all(b"x").await.unwrap();
    connection.disconnected().await;
}

/// Waits until the connection closes, and returns after how long.
async fn closed_after(connection: &mut Connection) -> Duration {
    let start = Instant::now();
    let error = path(connection).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_head_and_a_body_may_take_30_s_and_a_connection_may_be_idle_for_two_minutes() {
    let near = |took: Duration, seconds| took.abs_diff(Duration::from_secs(seconds)).as_secs() < 1;
    let (mut connection, _client) = pair().await;
    let took = closed_after(&mut connection).await;
    assert!(near(took, 30), "{took:?}");

    let (mut connection, mut client) = pair().await;
    served(&mut connection, &mut client).await;
    let took = closed_after(&mut connection).await;
    assert!(near(took, 120), "{took:?}");

    // The first byte of the next request is not the complete head.
    served(&mut connection, &mut client).await;
    client.write_all(b"G").await.unwrap();
    let took = closed_after(&mut connection).await;
    assert!(near(took, 30), "{took:?}");

    let (mut connection, mut client) = pair().await;
    let head = b"PUT / HTTP/1.1\r\ncontent-length: 2\r\n\r\nx";
    client.write_all(head).await.unwrap();
    let took = closed_after(&mut connection).await;
    assert!(near(took, 30), "{took:?}");

    // While a request waits, the client has no time limit.
    let waiting = timeout(IDLE_TIMEOUT * 10, connection.disconnected()).await;
    assert!(waiting.is_err());
}

#[tokio::test]
async fn without_a_free_permit_the_connection_that_has_been_idle_longest_is_closed() {
    let crowded = Arc::<Notify>::default();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(pair_of(Arc::clone(&crowded)).await);
    }
    // The first has not sent a request yet: it is new, not idle.
    for n in [2, 1] {
        let (connection, client) = &mut open[n];
        served(connection, client).await;
    }
    let mut heads: Vec<_> = open.iter_mut().map(|(c, _)| Box::pin(c.head())).collect();
    for n in [0, 2, 1] {
        assert!(futures::poll!(heads[n].as_mut()).is_pending());
    }
    let mut closed = Vec::new();
    for _ in 0..2 {
        crowded.notify_one();
        for (n, head) in heads.iter_mut().enumerate() {
            if !closed.contains(&n) && futures::poll!(head.as_mut()).is_ready() {
                closed.push(n);
            }
        }
    }
    assert_eq!(closed, [2, 1]);
}
