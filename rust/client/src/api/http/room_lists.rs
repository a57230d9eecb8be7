//! Room lists over HTTP: pages that may be unchanged, and events.

use backend_protocol::problem;
use backend_protocol::rooms::RoomQuery;
use backend_protocol::{Check, routes};
use reqwest::Url;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use uuid::Uuid;

use super::{Call, HttpBackend, MAX_ETAG, Reply, bad_reply, refusal};
use crate::api::backend::TaggedPage;
use crate::api::transport::{self, HttpReply, ReplyBody, StreamedReply, TransportError};
use crate::api::{diagnosis, retry};
use crate::error::{ClientError, Fault};
use crate::platform::rng;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Most bytes of the body of a reply that refuses.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

pub(super) fn call<'a>(path: &'static str, access_token: &'a str, query: &RoomQuery) -> Reply<Call<'a>> {
    query.check()?;
    let mut call = Call::get(path).with(access_token);
    call.query = Some(query_string(query)?);
    Ok(call)
}

/// A page, unless it is that of the entity tag `known`.
pub(super) async fn page(
    backend: &HttpBackend,
    access_token: &str,
    query: &RoomQuery,
    known: Option<&str>,
) -> Reply<TaggedPage> {
    let call = Call { known, ..call(routes::ROOMS, access_token, query)? };
    let (reply, request_id) = backend.run(&call).await?;
    let etag = reply.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    let etag = etag.filter(|tag| tag.len() <= MAX_ETAG).map(str::to_owned);
    if reply.status == 304 {
        return Ok(TaggedPage { page: None, etag: etag.or_else(|| known.map(str::to_owned)) });
    }
    Ok(TaggedPage { page: Some(backend.parsed(&call, &reply, &request_id)?), etag })
}

/// The events of a list. Their stream has no place among the calls in flight, for it does not end.
pub(super) async fn events(
    backend: &HttpBackend,
    access_token: &str,
    query: &RoomQuery,
    last_event_id: Option<&str>,
) -> Reply<Box<dyn ReplyBody>> {
    let call = call(routes::ROOM_EVENTS, access_token, query)?;
    let request_id = rng::random_uuid().simple().encode_lower(&mut Uuid::encode_buffer()).to_owned();
    let mut request = backend.request(&call, &request_id)?;
    let accepted = HeaderValue::from_static("text/event-stream, application/problem+json");
    request.headers.insert(ACCEPT, accepted);
    request.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = last_event_id {
        request.headers.insert(LAST_EVENT_ID, transport::plain(id)?);
    }
    let url = backend.url(&call);
    let unanswered = |error| diagnosis::unanswered(&url, error).with_request_id(&request_id);
    let mut reply = backend.transport.open(request).await.map_err(unanswered)?;
    let media_type =
        reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if reply.status == 200 && media_type.starts_with("text/event-stream") {
        return Ok(reply.body);
    }
    let is_problem = media_type.starts_with(problem::MEDIA_TYPE);
    let reply = read_refusal(&mut reply).await.map_err(unanswered)?;
    let asked = retry::retry_after(&reply.headers);
    if is_problem || reply.status != 200 {
        return Err(refusal(&url, &reply, asked).with_request_id(&request_id));
    }
    Err(bad_reply(reply.status, diagnosis::not_ours(&url, &reply)).with_request_id(&request_id))
}

async fn read_refusal(reply: &mut StreamedReply) -> Result<HttpReply, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = reply.body.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL_BYTES {
            body.truncate(MAX_REFUSAL_BYTES);
            break;
        }
    }
    Ok(HttpReply { status: reply.status, headers: std::mem::take(&mut reply.headers), body })
}

/// The query in `application/x-www-form-urlencoded`, through the type's own serialisation.
fn query_string(query: &RoomQuery) -> Reply<String> {
    let value = serde_json::to_value(query)
        .map_err(|error| ClientError::new(Fault::Internal, format!("query: {error}")))?;
    // A throw-away URL, for its encoder.
    let mut url = Url::parse("http://query.invalid/")
        .map_err(|error| ClientError::new(Fault::Internal, format!("query: {error}")))?;
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        url.query_pairs_mut().append_pair(name, &text);
    }
    Ok(url.query().unwrap_or_default().to_owned())
}
