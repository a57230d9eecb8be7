//! The request being handled, for whatever logs, audits or counts on its behalf.

use std::net::IpAddr;

use axum::http::HeaderValue;

tokio::task_local! {
    pub(super) static CURRENT: RequestContext;
}

/// The request being handled.
pub struct RequestContext {
    /// Visible ASCII.
    pub request_id: HeaderValue,
    pub address: Option<IpAddr>,
}

/// The id of the request being handled.
pub fn request_id() -> String {
    let id = CURRENT.try_with(|context| context.request_id.to_str().map(str::to_owned));
    id.ok().and_then(Result::ok).unwrap_or_default()
}

/// The address of the client whose request is being handled.
pub fn address() -> Option<IpAddr> {
    CURRENT.try_with(|context| context.address).ok().flatten()
}
