//! What a node has set for itself.

/// Settings of a node's own; `None` where Project Settings apply.
#[derive(Debug)]
pub struct Values {
    pub base_url: Option<String>,
    pub timeout_seconds: Option<f64>,
    pub retry_attempts: Option<i64>,
    pub max_in_flight: Option<i64>,
    pub allow_insecure_http: bool,
    pub tls_roots: Option<String>,
    pub issuer: Option<String>,
    pub game: Option<String>,
    pub use_overrides: bool,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            base_url: None,
            timeout_seconds: None,
            retry_attempts: None,
            max_in_flight: None,
            allow_insecure_http: false,
            tls_roots: None,
            issuer: None,
            game: None,
            use_overrides: true,
        }
    }
}

/// Where a node's own settings are, such as its `BackendConfig`.
pub trait OwnSettings {
    /// Their values at this moment.
    fn values(&self) -> Values;
}
