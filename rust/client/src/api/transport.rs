//! One HTTP exchange, without judgement: retries and meaning are [`crate::api::backend`]'s.

use std::error::Error;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Method, Response, Url, redirect};

use crate::config::{Config, TlsRoots};
use crate::error::{ClientError, Fault};

/// Largest reply body read, in bytes after decompression.
pub const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LOCAL_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// A request ready for the wire.
#[derive(Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: Url,
    /// Headers, the sensitive ones marked as such.
    pub headers: HeaderMap,
    /// The body: JSON, unless the headers say otherwise.
    pub body: Option<Vec<u8>>,
    /// Time this attempt may take, from connecting to the last byte. `None`: the caller keeps the time, by dropping the
    /// future.
    pub timeout: Option<Duration>,
}

/// A reply as it came.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed, at most [`MAX_REPLY_BYTES`].
    pub body: Vec<u8>,
}

/// Why there was no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// No connection was made: the request was certainly not executed.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The certificate was refused: the request was certainly not executed.
    #[error("the connection is not trusted: {0}")]
    Tls(String),
    /// The attempt took too long; it may have been executed.
    #[error("no reply in time")]
    Timeout,
    /// The connection broke; the request may have been executed.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The reply is larger than [`MAX_REPLY_BYTES`].
    #[error("the reply is larger than {MAX_REPLY_BYTES} bytes")]
    TooLarge,
}

impl TransportError {
    /// Whether the backend certainly did not see the request.
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

impl From<TransportError> for ClientError {
    fn from(error: TransportError) -> Self {
        let fault = match error {
            TransportError::Connect(_) | TransportError::Broken(_) => Fault::Network,
            TransportError::Tls(_) => Fault::Tls,
            TransportError::Timeout => Fault::Timeout,
            TransportError::TooLarge => Fault::ReplyTooLarge,
        };
        Self::new(fault, error.to_string())
    }
}

/// The body of a reply, part by part as it comes.
#[async_trait]
pub trait ReplyBody: Send {
    /// The next part; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError>;
}

/// A reply whose body comes over time.
pub struct StreamedReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Box<dyn ReplyBody>,
}

/// Something that carries HTTP.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and reads the whole reply. Dropping the future cancels the exchange.
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError>;

    /// Sends one request and reads the head of the reply. Dropping the body ends the exchange.
    async fn open(&self, _request: HttpRequest) -> Result<StreamedReply, TransportError> {
        Err(TransportError::Broken("this transport carries no streams".into()))
    }
}

/// The real network: one pool of kept-alive connections.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    client: Client,
}

impl HttpTransport {
    /// Opens a pool for `config`. No connection is made yet.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        let mut builder = Client::builder()
            .user_agent(concat!("backend_client/", env!("CARGO_PKG_VERSION")))
            // Retries are decided where it is known what may be repeated.
            .retry(reqwest::retry::never())
            // A redirect could carry a token to another host.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(config.max_in_flight)
            .tcp_nodelay(true)
            .no_proxy();
        builder = match &config.tls_roots {
            TlsRoots::Platform => builder,
            TlsRoots::Bundled => builder.tls_certs_only(bundled_roots()?),
            TlsRoots::File(path) => builder.tls_certs_only(roots(path)?),
        };
        let client = builder
            .build()
            .map_err(|error| ClientError::new(Fault::Internal, format!("HTTP client: {}", reason(&error))))?;
        Ok(Self { client })
    }

    /// Opens a pool for plain HTTP to what runs beside this process. No certificate is read, and TLS trusts nobody.
    pub(crate) fn local() -> Result<Self, ClientError> {
        let client = Client::builder()
            .user_agent(concat!("backend_client/", env!("CARGO_PKG_VERSION")))
            .retry(reqwest::retry::never())
            .redirect(redirect::Policy::none())
            .connect_timeout(LOCAL_CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .no_proxy()
            .tls_certs_only(std::iter::empty())
            .build()
            .map_err(|error| ClientError::new(Fault::Internal, format!("HTTP client: {}", reason(&error))))?;
        Ok(Self { client })
    }

    /// Sends a request and reads the head of the reply.
    async fn begin(&self, request: HttpRequest) -> Result<Response, TransportError> {
        let typed = request.headers.contains_key(CONTENT_TYPE);
        let mut builder = self.client.request(request.method, request.url).headers(request.headers);
        if let Some(timeout) = request.timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(body) = request.body {
            builder = if typed { builder } else { builder.header(CONTENT_TYPE, "application/json") };
            builder = builder.body(body);
        }
        builder.send().await.map_err(|error| sort(&error))
    }
}

fn bundled_roots() -> Result<Vec<Certificate>, ClientError> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| Certificate::from_der(root));
    roots
        .collect::<Result<_, _>>()
        .map_err(|error| ClientError::new(Fault::Internal, format!("bundled roots: {}", reason(&error))))
}

fn roots(path: &std::path::Path) -> Result<Vec<Certificate>, ClientError> {
    let refuse = |why: String| ClientError::field("tls_roots", format!("{}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|error| refuse(reason(&error)))?;
    if roots.is_empty() {
        return Err(refuse("holds no certificate".into()));
    }
    Ok(roots)
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let mut response = self.begin(request).await?;
        let announced = response.content_length().unwrap_or_default();
        if usize::try_from(announced).is_ok_and(|length| length > MAX_REPLY_BYTES) {
            return Err(TransportError::TooLarge);
        }
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| sort(&error))? {
            // Counted after decompression, so that a small bomb is caught as well.
            if body.len() + chunk.len() > MAX_REPLY_BYTES {
                return Err(TransportError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpReply { status, headers, body })
    }

    async fn open(&self, request: HttpRequest) -> Result<StreamedReply, TransportError> {
        let mut response = self.begin(request).await?;
        let headers = std::mem::take(response.headers_mut());
        Ok(StreamedReply { status: response.status().as_u16(), headers, body: Box::new(HttpBody(response)) })
    }
}

struct HttpBody(Response);

#[async_trait]
impl ReplyBody for HttpBody {
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        let chunk = self.0.chunk().await.map_err(|error| sort(&error))?;
        Ok(chunk.map(Into::into))
    }
}

fn sort(error: &reqwest::Error) -> TransportError {
    let why = reason(error);
    if error.is_connect() {
        // What TLS refuses is wrapped in a connect error; it never passes, so it must not be retried.
        match find::<rustls::Error>(error) {
            Some(refused) => TransportError::Tls(with_advice(&why, tls_advice(refused))),
            None => TransportError::Connect(with_advice(&why, connect_advice(error, &why))),
        }
    } else if error.is_timeout() {
        TransportError::Timeout
    } else {
        let is_no_http = find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse);
        let advice =
            "what answers there does not speak HTTP; if that port takes TLS, begin base_url with https://";
        TransportError::Broken(with_advice(&why, is_no_http.then_some(advice)))
    }
}

fn with_advice(why: &str, advice: Option<&str>) -> String {
    advice.map_or_else(|| why.to_owned(), |advice| format!("{why}: {advice}"))
}

fn tls_advice(refused: &rustls::Error) -> Option<&'static str> {
    use rustls::CertificateError as C;

    match refused {
        rustls::Error::InvalidMessage(_) => Some(
            "what answers there does not speak TLS; begin base_url with http://, or name the port that takes TLS",
        ),
        rustls::Error::InvalidCertificate(why) => match why {
            C::UnknownIssuer => Some("if its authority is your own, name its certificate in tls_roots"),
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                Some("check the certificate's dates, and the clock of this machine")
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => {
                Some("base_url has to use a name that the certificate is for")
            }
            _ => None,
        },
        _ => None,
    }
}

fn connect_advice(error: &reqwest::Error, why: &str) -> Option<&'static str> {
    let kind = find::<io::Error>(error).map(io::Error::kind);
    if error.is_timeout() {
        Some("no connection in time; check the address, and that no firewall drops it")
    } else if kind == Some(io::ErrorKind::ConnectionRefused) {
        Some("nothing listens there; check that the backend runs, and the port of base_url")
    } else if is_about_names(error) {
        Some("the host has no address; check its name in base_url, and this machine's DNS")
    } else if why.contains("handshake") {
        Some("the connection was closed while TLS began; check that the port of base_url takes TLS")
    } else {
        None
    }
}

/// Whether looking up the host failed. The resolver's error has no type that can be named, only these words.
fn is_about_names(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = next {
        if one.to_string() == "dns error" {
            return true;
        }
        next = one.source();
    }
    false
}

/// The first error of this type among what `error` wraps.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(one) = next {
        if let Some(found) = one.downcast_ref::<T>() {
            return Some(found);
        }
        // The source of an I/O error is not what it wraps, but the source of that.
        let wrapped = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => one.source(),
        };
    }
    None
}

/// The innermost words: reqwest's own stop at "error sending request". Never the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A header that logs print as `Sensitive`.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| ClientError::new(Fault::Internal, "the credential holds bytes that no header takes"))?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) fn plain(value: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::try_from(value)
        .map_err(|_| ClientError::new(Fault::Internal, "a header value holds bytes that no header takes"))
}

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static(backend_protocol::REQUEST_ID);
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(backend_protocol::IDEMPOTENCY_KEY);
