//! Where the backend is and how patiently it is asked.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use crate::error::{ClientError, Fault};

/// Certificate authorities that a backend's certificate may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum TlsRoots {
    /// The operating system's.
    #[default]
    Platform,
    /// Mozilla's, as of this build: for containers that have none.
    Bundled,
    /// Those in this PEM file, and no others.
    File(PathBuf),
}

/// Configuration of one backend. Equal configurations may share a connection pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Where the backend listens, such as `https://api.example.org`. A path is kept as a prefix.
    pub base_url: String,
    /// Total time one call may take, retries included. 0.1 s to 10 min.
    pub timeout: Duration,
    /// Most retries of one call, 0 to 10.
    pub retry_attempts: u32,
    /// Most requests on the wire at a time, 1 to 1,024; further ones wait.
    pub max_in_flight: usize,
    /// Allows plain HTTP to other machines. Tokens then travel in clear text.
    pub allow_insecure_http: bool,
    /// Which certificate authorities to trust.
    pub tls_roots: TlsRoots,
    /// `iss` that tokens must carry.
    pub issuer: String,
    /// The game whose access tokens are accepted.
    pub game: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            timeout: Duration::from_secs(10),
            retry_attempts: 3,
            max_in_flight: 64,
            allow_insecure_http: false,
            tls_roots: TlsRoots::Platform,
            issuer: "backend_client".into(),
            game: "default".into(),
        }
    }
}

impl Config {
    /// The base URL, parsed, once every field is found to be within its limits.
    pub fn check(&self) -> Result<Url, ClientError> {
        if self.base_url.trim().is_empty() {
            return Err(ClientError::new(
                Fault::NotConfigured,
                "no backend URL: set Project Settings → Backend Client → Network → Base Url, or BACKEND_URL",
            ));
        }
        if self.timeout < Duration::from_millis(100) || self.timeout > Duration::from_secs(600) {
            return Err(ClientError::field("timeout_seconds", "must be 0.1 to 600"));
        }
        if self.retry_attempts > 10 {
            return Err(ClientError::field("retry_attempts", "must be 0 to 10"));
        }
        if self.max_in_flight == 0 || self.max_in_flight > 1_024 {
            return Err(ClientError::field("max_in_flight", "must be 1 to 1024"));
        }
        let url = Url::parse(self.base_url.trim())
            .map_err(|error| refused_url(Fault::InvalidUrl, &error.to_string()))?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// The base URL in one spelling: scheme and host in lower case, without a port that the scheme has anyway, without a slash
    /// at the end. One that is no URL stays as it is.
    pub fn address(&self) -> String {
        let spelled = self.base_url.trim();
        let address = Url::parse(spelled).map_or_else(|_| spelled.to_owned(), |url| url.to_string());
        address.trim_end_matches('/').to_owned()
    }

    /// A name for this backend that fits a file name: what one backend handed out must not be shown to another.
    pub fn backend_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        format!("{}-{}-{}", self.base_url.trim(), self.issuer, self.game)
            .chars()
            .map(plain)
            .take(120)
            .collect()
    }

    fn check_url(&self, url: &Url) -> Result<(), ClientError> {
        let invalid = |rule: &str| Err(refused_url(Fault::InvalidUrl, rule));
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("must not carry a user name or a password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return invalid("must not carry a query or a fragment");
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allow_insecure_http || is_loopback(url) => Ok(()),
            "http" => Err(refused_url(
                Fault::InsecureUrl,
                "plain http is allowed to this machine only; use https, or set allow_insecure_http",
            )),
            _ => invalid("must begin with https:// or http://"),
        }
    }
}

fn refused_url(fault: Fault, rule: &str) -> ClientError {
    let mut error = ClientError::new(fault, format!("base_url: {rule}"));
    error.field = Some("base_url".into());
    error
}

/// Whether `url` names this machine. A name that merely resolves to loopback does not count, except `localhost`.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_for(base_url: &str) -> Result<(), &'static str> {
        let config = Config { base_url: base_url.into(), ..Config::default() };
        config.check().map(drop).map_err(|error| error.code())
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        assert_eq!(code_for("http://127.0.0.1:8420"), Ok(()));
        assert_eq!(code_for("http://[::1]:8420"), Ok(()));
        assert_eq!(code_for("http://localhost"), Ok(()));
        assert_eq!(code_for("http://localhost.example.org"), Err("insecure_url"));
        assert_eq!(code_for("http://192.0.2.1"), Err("insecure_url"));
        assert_eq!(code_for("https://api.example.org"), Ok(()));
    }

    #[test]
    fn odd_urls_are_refused() {
        assert_eq!(code_for(""), Err("not_configured"));
        assert_eq!(code_for("api.example.org"), Err("invalid_url"));
        assert_eq!(code_for("ftp://api.example.org"), Err("invalid_url"));
        assert_eq!(code_for("https://user:word@api.example.org"), Err("invalid_url"));
        assert_eq!(code_for("https://api.example.org/?a=b"), Err("invalid_url"));
    }

    #[test]
    fn limits_name_their_field() {
        let config = Config { base_url: "http://127.0.0.1".into(), max_in_flight: 0, ..Config::default() };
        assert_eq!(config.check().expect_err("refused").field.as_deref(), Some("max_in_flight"));
    }
}
