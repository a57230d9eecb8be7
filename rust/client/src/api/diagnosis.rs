//! Messages about replies that no backend gives, and about none: what was asked, what came, and what to do about it.

use std::fmt::Write as _;

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderName, LOCATION, SERVER};

use crate::api::transport::{HttpReply, TransportError};
use crate::error::ClientError;

/// Longest text of a stranger that is quoted, in characters.
const MAX_QUOTED: usize = 100;
/// Bytes of a page in which its title is looked for.
const MAX_PAGE_BYTES: usize = 4_096;

/// `url` without what may be secret: user name, password, query and fragment.
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Neither can fail where there is a host; without one there is neither.
    let _no_host = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.into()
}

/// The error for a request to `url` that got no reply.
pub(super) fn unanswered(url: &Url, error: TransportError) -> ClientError {
    let message = format!("{}: {error}", shown(url));
    let mut error = ClientError::from(error);
    error.message = message.into();
    error
}

/// What to say about a reply of `url` that is neither what was asked for nor a problem document.
pub(super) fn not_ours(url: &Url, reply: &HttpReply) -> String {
    let mut said = format!("{} answered with status {}", shown(url), reply.status);
    if let Some(server) = header(reply, SERVER) {
        let _infallible = write!(said, " from \"{server}\"");
    }
    let is_page = is_page(reply);
    if is_page {
        said += " and a web page";
        if let Some(title) = title(&reply.body) {
            let _infallible = write!(said, ", \"{title}\"");
        }
    } else if let Some(kind) = header(reply, CONTENT_TYPE) {
        let _infallible = write!(said, " and {kind}");
    }
    said += ", which is no reply of the backend. ";
    said += &advice(url, reply, is_page);
    said
}

fn advice(url: &Url, reply: &HttpReply, is_page: bool) -> String {
    match reply.status {
        300..400 => {
            let target = header(reply, LOCATION).and_then(|target| url.join(&target).ok());
            let target = target.map(|target| format!(" to {}", shown(&target))).unwrap_or_default();
            format!(
                "It is a redirect{target}. Redirects are not followed, because tokens could end up elsewhere: set \
                 base_url to where the backend is. If it is there already, the network may want a login first."
            )
        }
        400 if url.scheme() == "http" && wants_tls(&reply.body) => {
            "That port takes TLS only: begin base_url with https://.".into()
        }
        511 => "The network wants a login first (a captive portal): open a browser and log in.".into(),
        502..=504 => {
            "A proxy or load balancer answered, not the backend: check that the backend runs and that the \
                      proxy reaches it."
                .into()
        }
        401 | 403 | 407 => "A proxy in front of the backend refuses the request: check its rules.".into(),
        404 | 405 => "There is no backend at that address: check host, port and path of base_url.".into(),
        413 => "A proxy in front of the backend refuses requests of this size: raise its limit.".into(),
        200..300 if is_page => {
            "Either the network wants a login first (a captive portal), or base_url leads to a web \
                                site instead of the backend."
                .into()
        }
        _ => "Check that base_url leads to the backend, and what stands between.".into(),
    }
}

/// Whether the reply is JSON, by what it says of itself.
pub(super) fn is_json(reply: &HttpReply) -> bool {
    // Looked at for every reply: without a copy.
    reply.headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().trim_ascii_start();
        kind.starts_with(b"application/json") || kind.starts_with(b"application/problem+json")
    })
}

fn is_page(reply: &HttpReply) -> bool {
    let starts_like_one = || reply.body.trim_ascii_start().first() == Some(&b'<');
    header(reply, CONTENT_TYPE).map_or_else(starts_like_one, |kind| kind.contains("html"))
}

/// As other servers say it when they are spoken to in plain HTTP.
fn wants_tls(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_PAGE_BYTES)]).to_ascii_lowercase();
    text.contains("https") || text.contains("tls") || text.contains("ssl")
}

fn header(reply: &HttpReply, name: HeaderName) -> Option<String> {
    let value = reply.headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| quoted(value))
}

/// The title of a page: often the only hint at who made it.
fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_PAGE_BYTES)]);
    // ASCII only, so that places in one are places in the other.
    let lower = text.to_ascii_lowercase();
    let begin = lower.find("<title>")? + "<title>".len();
    let end = begin + lower[begin..].find('<')?;
    let title = quoted(text[begin..end].trim());
    (!title.is_empty()).then_some(title)
}

/// What others wrote, short and on one line.
fn quoted(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).take(MAX_QUOTED).collect()
}

#[cfg(test)]
mod tests;
