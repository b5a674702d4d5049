//! Bounds on connections: on how many are open at a time, and on how long one is kept on which nothing moves.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum_server::accept::Accept;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Accepts as many connections as are allowed. One more is closed at once: it would only wait for those before it.
#[derive(Clone)]
pub(super) struct Bounded {
    places: Arc<Semaphore>,
    idle_limit: Duration,
}

impl Bounded {
    /// At most `limit` connections, each of which ends when nothing has moved on it for `idle_limit`.
    pub(super) fn new(limit: usize, idle_limit: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))), idle_limit }
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Bounded {
    type Stream = Watched;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Watched, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!("a connection too many was closed");
            return std::future::ready(Err(io::Error::other("too many connections")));
        };
        // Small answers must not wait for an acknowledgement of the packet before.
        let watched =
            stream.set_nodelay(true).map(|()| (Watched::new(stream, self.idle_limit, place), service));
        std::future::ready(watched)
    }
}

/// A connection that gives its place back when it is closed, and is closed when its client neither sends nor takes anything.
///
/// A client that never reads its answers, or stays after its last one, would otherwise have its place for good.
pub(super) struct Watched {
    stream: TcpStream,
    idle_limit: Duration,
    /// When it has been idle for too long.
    idle: Pin<Box<Sleep>>,
    /// When what is to be written has waited for too long. What comes in meanwhile is no excuse.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Watched {
    fn new(stream: TcpStream, idle_limit: Duration, place: OwnedSemaphorePermit) -> Self {
        Self { stream, idle_limit, idle: Box::pin(sleep(idle_limit)), stalled: None, _place: place }
    }

    /// Notes that something has moved, or ends the connection if nothing has for too long.
    fn watch<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.as_mut().reset(Instant::now() + self.idle_limit);
            return polled;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same for what is written.
    fn watch_writing<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return self.watch(polled, context);
        }
        let limit = self.idle_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(polled, context)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_writing(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch_writing(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_millis(80);

    /// A connection as the server has it, and its client.
    async fn connection(limit: Duration) -> (Watched, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepts");
        let (watched, ()) = Bounded::new(1, limit).accept(stream, ()).await.expect("a place");
        (watched, client)
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_left() {
        let (mut server, _client) = connection(LIMIT).await;
        let error = server.read_u8().await.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_sends_now_and_then_is_waited_for() {
        let (mut server, mut client) = connection(LIMIT).await;
        for byte in 0..4 {
            sleep(LIMIT / 2).await;
            client.write_u8(byte).await.expect("is sent");
            assert_eq!(server.read_u8().await.expect("arrives"), byte);
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_left_even_if_it_sends() {
        let (mut server, mut client) = connection(LIMIT).await;
        let chatter = tokio::spawn(async move { while client.write_u8(0).await.is_ok() {} });
        let (mut reader, mut writer) = tokio::io::split(&mut server);
        let listening = async { while reader.read_u8().await.is_ok() {} };
        let writing = async {
            loop {
                if let Err(error) = writer.write_all(&[0; 1 << 16]).await {
                    break error.kind();
                }
            }
        };
        let ended = tokio::select! { kind = writing => kind, () = listening => unreachable!("it sends all the time") };
        assert_eq!(ended, io::ErrorKind::TimedOut);
        chatter.abort();
    }
}
