//! `tokio::net::TcpStream` and its halves.

use super::{ToSocketAddrs, unsupported};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of the simulated network.
pub struct TcpStream {
    inner: sim_world::net::TcpStream,
    nodelay: AtomicBool,
}

impl TcpStream {
    pub(super) fn new(inner: sim_world::net::TcpStream) -> Self {
        TcpStream {
            inner,
            nodelay: AtomicBool::new(false),
        }
    }

    /// Connects to the first address that accepts.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, or what resolving the address gives.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any address");
        for addr in addr.resolve()? {
            match sim_world::net::connect_from(None, addr).await {
                Ok(stream) => return Ok(TcpStream::new(stream)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Real connections have no place here.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn from_std(_: std::net::TcpStream) -> io::Result<TcpStream> {
        Err(unsupported("TcpStream::from_std"))
    }

    /// The address of this end.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// The error that no operation has reported yet.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    /// Copies bytes out without consuming them.
    ///
    /// # Errors
    /// As reading.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        poll_fn(|cx| self.inner.poll_peek_shared(cx, &mut buf)).await?;
        Ok(buf.filled().len())
    }

    /// As [`TcpStream::peek`].
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        self.inner
            .poll_peek_shared(cx, buf)
            .map_ok(|()| buf.filled().len() - before)
    }

    /// Waits until a read would not wait.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.inner.poll_read_ready(cx)).await
    }

    /// As [`TcpStream::readable`].
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_ready(cx)
    }

    /// Waits until a write would not wait.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.inner.poll_write_ready(cx)).await
    }

    /// As [`TcpStream::writable`].
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_write_ready(cx)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is, or as reading.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        now(self
            .inner
            .poll_read_shared(&mut Context::from_waker(Waker::noop()), &mut buf))?;
        Ok(buf.filled().len())
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing does, or as writing.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        now(self
            .inner
            .poll_write_shared(&mut Context::from_waker(Waker::noop()), buf))
    }

    /// What was set.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.nodelay.load(Ordering::Relaxed))
    }

    /// No effect: small writes leave at once anyway.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.nodelay.store(nodelay, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn apply_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.inner.set_reset_on_close(linger == Some(Duration::ZERO))
    }

    /// Zero: dropping the stream resets the connection. Other durations have no effect.
    ///
    /// # Errors
    /// When the process is gone.
    #[deprecated = "`SO_LINGER` causes the socket to block the thread on drop"]
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.apply_linger(linger)
    }

    /// Dropping the stream resets the connection.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.apply_linger(Some(Duration::ZERO))
    }

    /// Zero where dropping the stream resets the connection.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.resets_on_close()?.then_some(Duration::ZERO))
    }

    /// The hop limit, which has no effect.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(64)
    }

    /// No effect.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn set_ttl(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    /// Halves that borrow the stream.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Halves that own the stream together. Dropping the writing half finishes its direction.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Arc::new(self);
        (
            OwnedReadHalf { stream: stream.clone() },
            OwnedWriteHalf {
                stream,
                finish_on_drop: true,
            },
        )
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Read {
            Ok(())
        } else {
            self.inner.shutdown_write()
        }
    }
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_shared(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write_shared(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.inner.shutdown_write())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The reading half of [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a TcpStream);

/// The writing half of [`TcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a TcpStream);

/// The reading half of [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf {
    stream: Arc<TcpStream>,
}

/// The writing half of [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Arc<TcpStream>,
    finish_on_drop: bool,
}

/// The halves are not of one stream.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves that are not from the same socket")
    }
}

impl std::error::Error for ReuniteError {}

impl OwnedReadHalf {
    /// Puts the halves of one stream together again.
    ///
    /// # Errors
    /// When they are of different ones.
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
        if !Arc::ptr_eq(&self.stream, &other.stream) {
            return Err(ReuniteError(self, other));
        }
        other.forget();
        Ok(Arc::into_inner(self.stream).expect("the two halves are all there is"))
    }

    /// As [`TcpStream::peek`].
    ///
    /// # Errors
    /// As reading.
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(buf).await
    }

    /// As [`TcpStream::readable`].
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// As [`TcpStream::try_read`].
    ///
    /// # Errors
    /// `WouldBlock`, or as reading.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buf)
    }

    /// As [`TcpStream::peer_addr`].
    ///
    /// # Errors
    /// None in the simulator.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// As [`TcpStream::local_addr`].
    ///
    /// # Errors
    /// None in the simulator.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl OwnedWriteHalf {
    /// Puts the halves of one stream together again.
    ///
    /// # Errors
    /// When they are of different ones.
    pub fn reunite(self, other: OwnedReadHalf) -> Result<TcpStream, ReuniteError> {
        other.reunite(self)
    }

    /// Drops the half without finishing its direction.
    pub fn forget(mut self) {
        self.finish_on_drop = false;
    }

    /// As [`TcpStream::writable`].
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// As [`TcpStream::try_write`].
    ///
    /// # Errors
    /// `WouldBlock`, or as writing.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.stream.try_write(buf)
    }

    /// As [`TcpStream::peer_addr`].
    ///
    /// # Errors
    /// None in the simulator.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// As [`TcpStream::local_addr`].
    ///
    /// # Errors
    /// None in the simulator.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.finish_on_drop {
            // Nothing is left to report to: the other half sees whatever is wrong.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.inner.poll_read_shared(cx, buf)
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.inner.poll_read_shared(cx, buf)
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.inner.poll_write_shared(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.inner.poll_write_shared(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let finished = self.stream.shutdown(Shutdown::Write);
        if finished.is_ok() {
            self.finish_on_drop = false;
        }
        Poll::Ready(finished)
    }
}
