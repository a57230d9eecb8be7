//! [`Backend`] over our own protocol. The calls of a capability that has a trait of its own are in a file of its own.

mod accounts;
mod matchmaking;
mod room_creation;
mod room_lists;
mod worlds;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backend_protocol::player_store::{
    LoadPlayers, LoadedPlayers, PlayerConflicts, PlayerDocuments, ReleasePlayers, ReleasedPlayers,
    ResolveConflicts, SavedDocuments,
};
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, ServerLease};
use backend_protocol::relay::HostRoom;
use backend_protocol::rooms::{JoinByCode, JoinTicket, Regions, RequestTicket, Room, RoomPage, RoomQuery};
use backend_protocol::session::{
    AnonymousLogin, DeviceLogin, Logout, PasswordLogin, Refresh, Register, Session,
};
use backend_protocol::validation::{Validate, Validated};
use backend_protocol::{Check, Problem, problem, routes};
use reqwest::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::backend::accounts::AccountBackend;
use super::backend::matchmaking::MatchmakingBackend;
use super::backend::room_creation::RoomCreationBackend;
use super::backend::worlds::WorldBackend;
use super::backend::{Backend, PublishedKeys, Reply, TaggedPage};
use super::batch::Batch;
use super::clock_difference::ClockDifference;
use super::diagnosis;
use super::retry;
use super::transport::{self, HttpReply, HttpRequest, ReplyBody, Transport, TransportError};
use crate::config::Config;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::platform::rng;
use crate::platform::secret::ServerKey;

/// Longest entity tag that is sent back, in bytes.
const MAX_ETAG: usize = 128;

const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, application/problem+json");
/// As many as a call has, with those that the transport adds: the map never grows.
const HEADERS: usize = 8;

/// Our own backend over HTTP.
pub struct HttpBackend {
    config: Config,
    base: Url,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    in_flight: Semaphore,
    clock_difference: ClockDifference,
}

/// One call: what [`HttpBackend::run`] needs to know to send it, repeat it and read it.
struct Call<'a> {
    method: Method,
    path: String,
    query: Option<String>,
    credential: Option<&'a str>,
    body: Option<Vec<u8>>,
    /// Whether executing it twice is as good as once.
    repeatable: bool,
    /// Makes a call repeatable that is not so by itself.
    idempotency_key: Option<Uuid>,
    /// The entity tag of what is known already: its reply may be 304.
    known: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: None,
            credential: None,
            body: None,
            repeatable: true,
            idempotency_key: None,
            known: None,
        }
    }

    fn post(path: impl Into<String>, body: &(impl Serialize + Check)) -> Reply<Self> {
        body.check()?;
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::new(Fault::Internal, format!("request: {error}")))?;
        Ok(Self::post_json(path, body))
    }

    /// With a body that is checked and written already.
    fn post_json(path: impl Into<String>, body: Vec<u8>) -> Self {
        Self { method: Method::POST, body: Some(body), repeatable: false, ..Self::get(path) }
    }

    /// For calls that the protocol itself makes harmless twice.
    const fn repeated(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// For calls that make something: a repetition with the same key gets the first reply.
    fn once(mut self) -> Self {
        self.idempotency_key = Some(rng::random_uuid());
        self
    }

    fn with(mut self, credential: &'a str) -> Self {
        self.credential = Some(credential);
        self
    }
}

impl HttpBackend {
    /// A backend at `config.base_url`, over `transport`.
    pub fn new(config: Config, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Reply<Self> {
        let mut base = config.check()?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let in_flight = Semaphore::new(config.max_in_flight);
        Ok(Self { config, base, transport, clock, in_flight, clock_difference: ClockDifference::default() })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Reply<T> {
        let (reply, request_id) = self.run(&call).await?;
        self.parsed(&call, &reply, &request_id)
    }

    fn parsed<T: DeserializeOwned>(&self, call: &Call<'_>, reply: &HttpReply, request_id: &str) -> Reply<T> {
        serde_json::from_slice(&reply.body).map_err(|error| {
            let url = self.url(call);
            let what = if diagnosis::is_json(reply) {
                // The parser's words may quote the body, which may hold a token: only its position is told.
                let (line, column) = (error.line(), error.column());
                let shown = diagnosis::shown(&url);
                format!("what {shown} sent does not parse at line {line}, column {column}")
            } else {
                diagnosis::not_ours(&url, reply)
            };
            bad_reply(reply.status, what).with_request_id(request_id)
        })
    }

    async fn call_without_reply(&self, call: Call<'_>) -> Reply<()> {
        let (reply, request_id) = self.run(&call).await?;
        // The page of a captive portal or of a proxy is no consent, whatever its status.
        if reply.body.is_empty() || diagnosis::is_json(&reply) {
            return Ok(());
        }
        let what = diagnosis::not_ours(&self.url(&call), &reply);
        Err(bad_reply(reply.status, what).with_request_id(&request_id))
    }

    /// Sends until there is a reply that settles it, the attempts are used up, or the deadline is near.
    async fn run(&self, call: &Call<'_>) -> Reply<(HttpReply, String)> {
        let request_id = rng::random_uuid().simple().encode_lower(&mut Uuid::encode_buffer()).to_owned();
        let deadline = self.clock.now() + self.config.timeout;
        let work = async {
            let Ok(_place) = self.in_flight.acquire().await else {
                return Err(ClientError::new(Fault::Cancelled, "the client is closing"));
            };
            // Boxed, so that the thousands of a burst that wait for a place take little memory each.
            Box::pin(self.attempts(call, &request_id, deadline)).await
        };
        let give_up = self.clock.sleep(self.config.timeout);
        tokio::select! {
            outcome = work => outcome.map_err(|error| error.with_request_id(&request_id)),
            () = give_up => Err(self.timed_out(call).with_request_id(&request_id)),
        }
        .map(|reply| (reply, request_id))
    }

    async fn attempts(&self, call: &Call<'_>, request_id: &str, deadline: Instant) -> Reply<HttpReply> {
        let mut attempt = 0;
        loop {
            let sent = self.clock.unix_seconds();
            let outcome = self.transport.send(self.request(call, request_id)?).await;
            if let Ok(reply) = &outcome {
                self.note_clock(call, reply, sent);
            }
            let (error, asked, may_repeat) = match outcome {
                Ok(reply) if (200..300).contains(&reply.status) => return Ok(reply),
                Ok(reply) if reply.status == 304 && call.known.is_some() => return Ok(reply),
                Ok(reply) => {
                    let asked = retry::retry_after(&reply.headers);
                    // 429 and 503 are sent instead of executing; other statuses only allow what is harmless twice.
                    let refused = matches!(reply.status, 429 | 503);
                    let may_repeat = retry::is_passing(reply.status) && (refused || call.may_repeat());
                    (refusal(&self.url(call), &reply, asked), asked, may_repeat)
                }
                Err(error) => {
                    let final_word = matches!(error, TransportError::Tls(_) | TransportError::TooLarge);
                    let may_repeat = error.is_unsent() || (call.may_repeat() && !final_word);
                    (diagnosis::unanswered(&self.url(call), error), None, may_repeat)
                }
            };
            let pause = retry::pause(asked, attempt);
            let left = deadline.saturating_duration_since(self.clock.now());
            if !may_repeat || attempt >= self.config.retry_attempts || pause >= left {
                return Err(error);
            }
            tracing::debug!(path = %call.path, code = error.code(), attempt, "repeating the call");
            self.clock.sleep(pause).await;
            attempt += 1;
        }
    }

    /// Replies to a POST come from no cache; what is not JSON is not from the backend.
    fn note_clock(&self, call: &Call<'_>, reply: &HttpReply, sent: u64) {
        if call.method == Method::POST && diagnosis::is_json(reply) {
            let received = self.clock.unix_seconds();
            self.clock_difference.note(&reply.headers, sent, received, || diagnosis::shown(&self.base));
        }
    }

    fn timed_out(&self, call: &Call<'_>) -> ClientError {
        let (shown, seconds) = (diagnosis::shown(&self.url(call)), self.config.timeout.as_secs_f64());
        ClientError::new(Fault::Timeout, format!("no reply from {shown} within {seconds:.1} s"))
    }

    fn url(&self, call: &Call<'_>) -> Url {
        // Not joined: that would take the host apart for every call.
        let mut url = self.base.clone();
        url.set_path(&[url.path(), call.path.trim_start_matches('/')].concat());
        if call.query.is_some() {
            url.set_query(call.query.as_deref());
        }
        url
    }

    fn request(&self, call: &Call<'_>, request_id: &str) -> Reply<HttpRequest> {
        let url = self.url(call);
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(ACCEPT, ACCEPTED);
        headers.insert(transport::REQUEST_ID, transport::plain(request_id)?);
        if let Some(credential) = call.credential {
            headers.insert(AUTHORIZATION, transport::bearer(credential)?);
        }
        if let Some(known) = call.known {
            headers.insert(IF_NONE_MATCH, transport::plain(known)?);
        }
        if let Some(key) = call.idempotency_key {
            headers.insert(
                transport::IDEMPOTENCY_KEY,
                transport::plain(key.hyphenated().encode_lower(&mut Uuid::encode_buffer()))?,
            );
        }
        // `run` keeps the time: a second timer for each call would be one too many.
        let timeout = None;
        Ok(HttpRequest { method: call.method.clone(), url, headers, body: call.body.clone(), timeout })
    }
}

impl Call<'_> {
    const fn may_repeat(&self) -> bool {
        self.repeatable || self.idempotency_key.is_some()
    }
}

fn bad_reply(status: u16, what: impl std::fmt::Display) -> ClientError {
    let mut error =
        ClientError::new(Fault::BadReply, format!("the backend's reply is not understood: {what}"));
    error.http_status = Some(status);
    error
}

/// Turns an error reply into a typed error; whatever is not a problem document keeps its status.
fn refusal(url: &Url, reply: &HttpReply, asked: Option<Duration>) -> ClientError {
    let media_type = reply.headers.get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_problem = media_type.is_some_and(|value| value.starts_with(problem::MEDIA_TYPE));
    let parsed = is_problem.then(|| serde_json::from_slice::<Problem>(&reply.body).ok()).flatten();
    let mut error = match parsed {
        // The status line is what intermediaries acted on; a body that claims another is not believed.
        Some(problem) => ClientError::from(Problem { status: reply.status, ..problem }),
        None => bad_reply(reply.status, diagnosis::not_ours(url, reply)),
    };
    error.retryable = retry::is_passing(reply.status);
    error.retry_after = asked.or(error.retry_after);
    error
}

/// How long a reply is fresh (RFC 9111 §5.2.2.1).
fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    directives.find_map(|one| one.strip_prefix("max-age=")?.parse().ok()).map(Duration::from_secs)
}

/// Ids become path segments, so nothing but an identifier may pass.
fn checked_id(field: &str, id: &str) -> Reply<String> {
    backend_protocol::limits::identifier(field, id, 64)?;
    Ok(id.to_owned())
}

#[async_trait]
impl Backend for HttpBackend {
    fn name(&self) -> String {
        self.config.backend_name()
    }

    fn clock_difference(&self) -> i64 {
        self.clock_difference.seconds()
    }

    async fn login_anonymous(&self, body: &AnonymousLogin) -> Reply<Session> {
        self.call(Call::post(routes::AUTH_ANONYMOUS, body)?.once()).await
    }

    async fn login_device(&self, body: &DeviceLogin) -> Reply<Session> {
        self.call(Call::post(routes::AUTH_DEVICE, body)?.once()).await
    }

    async fn login_password(&self, body: &PasswordLogin) -> Reply<Session> {
        self.call(Call::post(routes::AUTH_PASSWORD, body)?).await
    }

    async fn register_account(&self, body: &Register) -> Reply<Session> {
        self.call(Call::post(routes::AUTH_REGISTER, body)?.once()).await
    }

    // Repeatable: an immediate replay of a refresh token gets the same successor.
    async fn refresh(&self, body: &Refresh) -> Reply<Session> {
        self.call(Call::post(routes::AUTH_REFRESH, body)?.repeated()).await
    }

    async fn logout(&self, body: &Logout) -> Reply<()> {
        self.call_without_reply(Call::post(routes::AUTH_LOGOUT, body)?.repeated()).await
    }

    async fn key_set(&self, known: Option<&str>) -> Reply<PublishedKeys> {
        let (reply, _) = self.run(&Call { known, ..Call::get(routes::JWKS) }).await?;
        let text = |name| reply.headers.get(name).and_then(|value| value.to_str().ok());
        let etag = text(ETAG).filter(|tag| tag.len() <= MAX_ETAG).map(str::to_owned);
        let fresh_for = text(CACHE_CONTROL).and_then(max_age);
        Ok(PublishedKeys { document: (reply.status != 304).then_some(reply.body), etag, fresh_for })
    }

    // Keyed: without it, a ticket whose consumption was answered by a lost reply would look replayed.
    async fn validate(&self, key: &ServerKey, body: &Validate) -> Reply<Validated> {
        self.call(Call::post(routes::VALIDATE, body)?.once().with(key.expose())).await
    }

    async fn register_server(&self, key: &ServerKey, body: &RegisterServer) -> Reply<ServerLease> {
        self.call(Call::post(routes::SERVERS, body)?.once().with(key.expose())).await
    }

    // Repeatable: the sequence number makes an old heartbeat harmless.
    async fn heartbeat(&self, key: &ServerKey, server_id: &str, body: &Heartbeat) -> Reply<HeartbeatReply> {
        let path = routes::heartbeat(&checked_id("server_id", server_id)?);
        self.call(Call::post(path, body)?.repeated().with(key.expose())).await
    }

    async fn deregister_server(&self, key: &ServerKey, server_id: &str) -> Reply<()> {
        let path = routes::server(&checked_id("server_id", server_id)?);
        let call = Call { method: Method::DELETE, ..Call::get(path) };
        self.call_without_reply(call.with(key.expose())).await
    }

    async fn rooms(&self, access_token: &str, query: &RoomQuery) -> Reply<RoomPage> {
        self.call(room_lists::call(routes::ROOMS, access_token, query)?).await
    }

    async fn rooms_unless(
        &self,
        access_token: &str,
        query: &RoomQuery,
        known: Option<&str>,
    ) -> Reply<TaggedPage> {
        room_lists::page(self, access_token, query, known).await
    }

    async fn room_events(
        &self,
        access_token: &str,
        query: &RoomQuery,
        last_event_id: Option<&str>,
    ) -> Reply<Box<dyn ReplyBody>> {
        room_lists::events(self, access_token, query, last_event_id).await
    }

    async fn regions(&self, access_token: &str) -> Reply<Regions> {
        self.call(Call::get(routes::REGIONS).with(access_token)).await
    }

    async fn room(&self, access_token: &str, room_id: &str) -> Reply<Room> {
        self.call(Call::get(routes::room(&checked_id("room_id", room_id)?)).with(access_token)).await
    }

    async fn ticket(&self, access_token: &str, room_id: &str, body: &RequestTicket) -> Reply<JoinTicket> {
        let path = routes::ticket(&checked_id("room_id", room_id)?);
        self.call(Call::post(path, body)?.once().with(access_token)).await
    }

    async fn ticket_by_code(&self, access_token: &str, body: &JoinByCode) -> Reply<JoinTicket> {
        self.call(Call::post(routes::TICKET_BY_CODE, body)?.once().with(access_token)).await
    }

    async fn host_relay_room(&self, access_token: &str, body: &HostRoom) -> Reply<JoinTicket> {
        self.call(Call::post(routes::RELAY_ROOMS, body)?.once().with(access_token)).await
    }

    // Repeatable: the server that holds a player already keeps its epoch.
    async fn load_players(&self, key: &ServerKey, body: &LoadPlayers) -> Reply<LoadedPlayers> {
        self.call(Call::post(routes::PLAYERS_LOAD, body)?.repeated().with(key.expose())).await
    }

    // Repeatable: (epoch, sequence) makes a replay harmless.
    async fn save_documents(&self, key: &ServerKey, body: &Batch) -> Reply<SavedDocuments> {
        body.check()?;
        self.call(Call::post_json(routes::PLAYERS_SAVE, body.to_json()).repeated().with(key.expose())).await
    }

    // Repeatable: it names the epoch, and ends no later lease.
    async fn release_players(&self, key: &ServerKey, body: &ReleasePlayers) -> Reply<ReleasedPlayers> {
        self.call(Call::post(routes::PLAYERS_RELEASE, body)?.repeated().with(key.expose())).await
    }

    async fn player_conflicts(&self, key: &ServerKey, player_id: &str) -> Reply<PlayerConflicts> {
        let path = routes::player_conflicts(&checked_id("player_id", player_id)?);
        self.call(Call::get(path).with(key.expose())).await
    }

    // Repeatable: a conflict that is gone stays gone.
    async fn resolve_conflicts(&self, key: &ServerKey, body: &ResolveConflicts) -> Reply<()> {
        self.call_without_reply(Call::post(routes::CONFLICTS_RESOLVE, body)?.repeated().with(key.expose()))
            .await
    }

    async fn own_documents(&self, access_token: &str) -> Reply<PlayerDocuments> {
        self.call(Call::get(routes::OWN_DOCUMENTS).with(access_token)).await
    }

    fn accounts(self: Arc<Self>) -> Option<Arc<dyn AccountBackend>> {
        Some(self)
    }

    fn room_creation(self: Arc<Self>) -> Option<Arc<dyn RoomCreationBackend>> {
        Some(self)
    }

    fn matchmaking(self: Arc<Self>) -> Option<Arc<dyn MatchmakingBackend>> {
        Some(self)
    }

    fn worlds(self: Arc<Self>) -> Option<Arc<dyn WorldBackend>> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
