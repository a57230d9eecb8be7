//! A connection pool that is opened by the first request, on a worker: reading the platform's certificates takes
//! milliseconds, which the main thread does not have.

use crate::Config;
use crate::api::transport::{
    HttpReply, HttpRequest, HttpTransport, StreamedReply, Transport, TransportError,
};
use async_trait::async_trait;
use tokio::sync::OnceCell;

/// An [`HttpTransport`] to be.
pub struct LazyTransport {
    config: Config,
    opened: OnceCell<HttpTransport>,
}

impl LazyTransport {
    /// A pool for `config`, not opened yet.
    pub fn new(config: Config) -> Self {
        Self { config, opened: OnceCell::new() }
    }

    async fn open_pool(&self) -> Result<HttpTransport, TransportError> {
        let config = self.config.clone();
        let opened = tokio::task::spawn_blocking(move || HttpTransport::new(&config)).await;
        match opened {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(error)) => Err(TransportError::Tls(error.message.into_owned())),
            Err(error) => Err(TransportError::Connect(error.to_string())),
        }
    }
}

#[async_trait]
impl Transport for LazyTransport {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        self.opened.get_or_try_init(|| self.open_pool()).await?.send(request).await
    }

    async fn open(&self, request: HttpRequest) -> Result<StreamedReply, TransportError> {
        self.opened.get_or_try_init(|| self.open_pool()).await?.open(request).await
    }
}
