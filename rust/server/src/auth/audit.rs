//! Security events, under the log target `audit`, which no log level switches off. They never contain a secret, and never
//! an e-mail address: accounts are named by their ids.

use crate::http::context;

/// The target of every event.
pub const TARGET: &str = "audit";

/// One security event, logged by [`Event::ok`] or [`Event::refused`].
#[must_use = "an event is logged by ok() or refused()"]
pub struct Event<'a> {
    event: &'static str,
    method: Option<&'static str>,
    player_id: Option<&'a str>,
    server_id: Option<&'a str>,
    key_id: Option<&'a str>,
    detail: Option<String>,
}

impl<'a> Event<'a> {
    pub const fn new(event: &'static str) -> Self {
        Self { event, method: None, player_id: None, server_id: None, key_id: None, detail: None }
    }

    pub const fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    pub const fn player(mut self, player_id: &'a str) -> Self {
        self.player_id = Some(player_id);
        self
    }

    pub const fn server(mut self, server_id: &'a str) -> Self {
        self.server_id = Some(server_id);
        self
    }

    pub const fn key(mut self, key_id: &'a str) -> Self {
        self.key_id = Some(key_id);
        self
    }

    /// Details in plain text.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn ok(self) {
        self.log("ok", None);
    }

    pub fn refused(self, reason: &str) {
        self.log("refused", Some(reason));
    }

    fn log(self, outcome: &'static str, reason: Option<&str>) {
        let address = context::address().map(|address| address.to_string());
        let request_id = Some(context::request_id()).filter(|id| !id.is_empty());
        tracing::info!(
            target: TARGET,
            event = self.event,
            outcome,
            reason,
            method = self.method,
            player_id = self.player_id,
            server_id = self.server_id,
            key_id = self.key_id,
            detail = self.detail,
            address,
            request_id,
        );
        metrics::counter!("backend_security_events_total", "event" => self.event, "outcome" => outcome)
            .increment(1);
    }
}
