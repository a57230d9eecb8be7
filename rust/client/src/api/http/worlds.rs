//! The world store's calls over our own protocol. Objects travel outside of [`Call`]: they are large, they are not JSON,
//! and they may go to another host, which must never be shown the server key.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use backend_protocol::world_store::{
    ChunkPage, ChunkQuery, CommitWorld, CommittedWorld, Downloads, MAX_OBJECT_BYTES, ObjectAddress,
    OpenWorld, ReleaseWorld, RequestDownloads, RequestUploads, Uploads, WorldLease, object_hash, world_id,
};
use backend_protocol::{Check, routes};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE,
};
use reqwest::{Method, Url};

use super::{Call, HttpBackend, Reply, bad_reply, refusal};
use crate::api::backend::worlds::{ObjectPart, WorldBackend};
use crate::api::transport::{self, HttpReply, HttpRequest};
use crate::api::{diagnosis, retry};
use crate::error::{ClientError, Fault};
use crate::platform::rng;
use crate::platform::secret::ServerKey;

/// Slowest line an object is given time for, in bytes per second.
const MIN_BYTES_PER_SECOND: u64 = 64 * 1024;

fn of_world(route: &str, world: &str) -> Reply<String> {
    world_id("world_id", world)?;
    Ok(routes::of_world(route, world))
}

#[async_trait]
impl WorldBackend for HttpBackend {
    // Repeatable: the server that holds the world already keeps its epoch.
    async fn open_world(&self, key: &ServerKey, world: &str, body: &OpenWorld) -> Reply<WorldLease> {
        self.call(Call::post(of_world(routes::WORLD_OPEN, world)?, body)?.repeated().with(key.expose())).await
    }

    async fn world_chunks(&self, key: &ServerKey, world: &str, query: &ChunkQuery) -> Reply<ChunkPage> {
        query.check()?;
        let mut pairs =
            Url::parse("http://query/").map_err(|_| ClientError::new(Fault::Internal, "query"))?;
        if let Some(limit) = query.limit {
            pairs.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
        if let Some(cursor) = &query.cursor {
            pairs.query_pairs_mut().append_pair("cursor", cursor);
        }
        let mut call = Call::get(of_world(routes::WORLD_CHUNKS, world)?).with(key.expose());
        call.query = pairs.query().map(str::to_owned);
        self.call(call).await
    }

    async fn request_uploads(&self, key: &ServerKey, world: &str, body: &RequestUploads) -> Reply<Uploads> {
        self.call(Call::post(of_world(routes::WORLD_UPLOADS, world)?, body)?.repeated().with(key.expose()))
            .await
    }

    async fn request_downloads(
        &self,
        key: &ServerKey,
        world: &str,
        body: &RequestDownloads,
    ) -> Reply<Downloads> {
        self.call(Call::post(of_world(routes::WORLD_DOWNLOADS, world)?, body)?.repeated().with(key.expose()))
            .await
    }

    // Repeatable: (epoch, sequence) makes a replay harmless.
    async fn commit_world(&self, key: &ServerKey, world: &str, body: &CommitWorld) -> Reply<CommittedWorld> {
        self.call(Call::post(of_world(routes::WORLD_COMMIT, world)?, body)?.repeated().with(key.expose()))
            .await
    }

    // Repeatable: it names the epoch, and ends no later lease.
    async fn release_world(&self, key: &ServerKey, world: &str, body: &ReleaseWorld) -> Reply<()> {
        let path = of_world(routes::WORLD_RELEASE, world)?;
        self.call_without_reply(Call::post(path, body)?.repeated().with(key.expose())).await
    }

    async fn send_object(
        &self,
        key: &ServerKey,
        world: &str,
        hash: &str,
        address: Option<&ObjectAddress>,
        stored: Vec<u8>,
    ) -> Reply<()> {
        let size = stored.len() as u64;
        let mut request = self.object_request(Method::PUT, key, world, hash, address)?;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zstd"));
        request.body = Some(stored);
        self.exchange(request, size, address.is_some()).await.map(drop)
    }

    async fn receive_object(
        &self,
        key: &ServerKey,
        world: &str,
        hash: &str,
        address: Option<&ObjectAddress>,
        range: Range<u64>,
    ) -> Reply<ObjectPart> {
        let mut request = self.object_request(Method::GET, key, world, hash, address)?;
        let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        request.headers.insert(RANGE, transport::plain(&wanted)?);
        // A range is one of the stored bytes: nothing in between may compress them again.
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let reply = self.exchange(request, range.end - range.start, address.is_some()).await?;
        let part = match reply.status {
            206 => content_range(&reply).map(|(start, total)| (start, total, reply.body)),
            _ => Some((0, reply.body.len() as u64, reply.body)),
        };
        let (start, total, bytes) = part.ok_or_else(|| bad_reply(reply.status, "no Content-Range"))?;
        if total > MAX_OBJECT_BYTES as u64 || start + bytes.len() as u64 > total {
            return Err(bad_reply(reply.status, format!("an object of {total} bytes")));
        }
        Ok(ObjectPart { start, bytes, total })
    }
}

impl HttpBackend {
    /// A request for an object without body. The server key goes to the backend only.
    fn object_request(
        &self,
        method: Method,
        key: &ServerKey,
        world: &str,
        hash: &str,
        address: Option<&ObjectAddress>,
    ) -> Reply<HttpRequest> {
        let Some(address) = address else {
            world_id("world_id", world)?;
            object_hash("hash", hash)?;
            let call = Call { method, ..Call::get(routes::world_object(world, hash)) };
            return self.request(&call.with(key.expose()), &rng::random_uuid().simple().to_string());
        };
        let refuse =
            |why: &str| ClientError::new(Fault::BadReply, format!("the signed address is refused: {why}"));
        if address.method != method.as_str() {
            return Err(refuse("it is for another method"));
        }
        let url = Url::parse(&address.url).map_err(|_| refuse("it is no URL"))?;
        let loopback = url.host_str().is_some_and(|host| {
            host == "localhost"
                || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        });
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(refuse("it is neither https nor on this machine"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &address.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| refuse("a header has a bad name"))?;
            if name == AUTHORIZATION {
                return Err(refuse("it wants a credential"));
            }
            headers
                .insert(name, HeaderValue::try_from(value.as_str()).map_err(|_| refuse("a header is bad"))?);
        }
        Ok(HttpRequest { method, url, headers, body: None, timeout: None })
    }

    /// One attempt, with time for `bytes` on a slow line.
    async fn exchange(&self, mut request: HttpRequest, bytes: u64, signed: bool) -> Reply<HttpReply> {
        request.timeout = Some(self.config.timeout + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND));
        let Ok(_place) = self.in_flight.acquire().await else {
            return Err(ClientError::new(Fault::Cancelled, "the client is closing"));
        };
        let url = request.url.clone();
        let sends = request.method == Method::PUT;
        let reply = self.transport.send(request).await.map_err(|error| diagnosis::unanswered(&url, error))?;
        if (200..300).contains(&reply.status) {
            // Where an object is sent, the backend says nothing: a page is from somebody else, who has not kept it.
            let is_ours = signed || !sends || reply.body.is_empty() || diagnosis::is_json(&reply);
            return if is_ours {
                Ok(reply)
            } else {
                Err(bad_reply(reply.status, diagnosis::not_ours(&url, &reply)))
            };
        }
        let asked = retry::retry_after(&reply.headers);
        if !signed {
            return Err(refusal(&url, &reply, asked));
        }
        // Addresses run out, and stores are busy at times: with a new address it may work.
        let mut error = ClientError::new(
            Fault::Network,
            format!("the object store at {} answered with status {}", diagnosis::shown(&url), reply.status),
        );
        error.http_status = Some(reply.status);
        error.retry_after = asked;
        Err(error)
    }
}

/// `bytes 0-99/1234` (RFC 9110 §14.4): where the part begins, and the size of the whole.
fn content_range(reply: &HttpReply) -> Option<(u64, u64)> {
    let text = reply.headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests;
