//! How connections are made: by TCP, or by whatever a test puts in its place.
//!
//! Elsewhere: TLS on them (`tls`), HTTP/2 on that (`dial`, `serve`).

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection's octets.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Makes connections to other nodes.
#[async_trait::async_trait]
pub trait Connect: Send + Sync + 'static {
    /// To a host and port.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>>;
}

/// Takes connections of other nodes.
#[async_trait::async_trait]
pub trait Accept: Send + 'static {
    /// The next connection, and whence it comes.
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, SocketAddr)>;
}

/// TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnect;

#[async_trait::async_trait]
impl Connect for TcpConnect {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// TCP.
#[derive(Debug)]
pub struct TcpAccept(pub TcpListener);

#[async_trait::async_trait]
impl Accept for TcpAccept {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), from))
    }
}
