//! Connections a handler can kill: the faults need resets, and stopping needs an end.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::task::AtomicWaker;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be accepted; the usual 128 drops some of a large start.
const BACKLOG: u32 = 4_096;

const OPEN: u8 = 0;
const CLOSE: u8 = 1;
const RESET: u8 = 2;

/// A handler's grip on its connection.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Grip>);

#[derive(Debug, Default)]
struct Grip {
    order: AtomicU8,
    waker: AtomicWaker,
}

impl Peer {
    /// Ends the connection with an RST, whatever is still on its way.
    pub(super) fn reset(&self) {
        self.order(RESET);
    }

    /// Ends the connection at once, without an answer.
    pub(super) fn close(&self) {
        self.order(CLOSE);
    }

    fn order(&self, order: u8) {
        self.0.order.store(order, Ordering::Release);
        self.0.waker.wake();
    }
}

/// All open connections, so that stopping can end them.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    stopped: bool,
    next: u64,
    peers: HashMap<u64, Peer>,
}

impl Connections {
    /// Ends every connection, also those that are still to be accepted.
    pub(super) fn stop(&self) {
        let mut open = self.lock();
        open.stopped = true;
        for peer in open.peers.values() {
            peer.close();
        }
    }

    fn add(&self) -> (u64, Peer) {
        let mut open = self.lock();
        let peer = Peer(Arc::default());
        if open.stopped {
            peer.close();
        }
        open.next += 1;
        let number = open.next;
        open.peers.insert(number, peer.clone());
        (number, peer)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TCP listener whose connections can be killed.
pub(super) struct Door {
    listener: TcpListener,
    connections: Connections,
}

impl Door {
    /// Listens on `addr`; needs a runtime.
    pub(super) fn open(addr: SocketAddr, connections: Connections) -> io::Result<Door> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Door { listener: socket.listen(BACKLOG)?, connections })
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Listener for Door {
    type Io = Conn;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Conn, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "failed to set TCP_NODELAY");
                    }
                    let (number, peer) = self.connections.add();
                    let connections = self.connections.clone();
                    return (Conn { stream, peer, number, connections }, addr);
                }
                Err(error) => {
                    // Out of descriptors, most likely: some will be closed soon.
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.addr()
    }
}

/// A connection that obeys its [`Peer`].
pub(super) struct Conn {
    stream: TcpStream,
    peer: Peer,
    number: u64,
    connections: Connections,
}

impl Conn {
    /// Fails when the connection has been ordered to end; otherwise the order will wake us.
    fn obey(&self, cx: &Context<'_>) -> io::Result<()> {
        let grip = &self.peer.0;
        grip.waker.register(cx.waker());
        match grip.order.load(Ordering::Acquire) {
            OPEN => return Ok(()),
            RESET => self.stream.set_zero_linger()?,
            _ => {}
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.connections.lock().peers.remove(&self.number);
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Peer {
        stream.io().peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
