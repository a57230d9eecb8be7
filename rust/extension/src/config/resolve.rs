//! The settings that apply to a node. In order of precedence: command line, environment, the node's `BackendConfig`, Project
//! Settings.

use std::time::Duration;

use backend_client::Config;
use backend_client::config::TlsRoots;
use backend_client::error::{ClientError, Fault};

use crate::config::local_folders::globalized;
use crate::config::overrides::override_for;
use crate::config::own_settings::OwnSettings;
use crate::config::project_settings;
use backend_settings::{
    ALLOW_INSECURE_HTTP, BASE_URL, GAME, ISSUER, MAX_IN_FLIGHT, Override, PROFILE, ProjectSetting,
    RETRY_ATTEMPTS, TIMEOUT_SECONDS, TLS_ROOTS,
};

/// What applies to a node whose `config` is `own`.
pub fn resolve(own: Option<&impl OwnSettings>) -> Result<Config, ClientError> {
    let own = own.map(OwnSettings::values);
    let overrides = own.as_ref().is_none_or(|own| own.use_overrides);
    let own = own.unwrap_or_default();
    let outside = |setting: &Override| if overrides { override_for(setting) } else { None };
    let seconds = own.timeout_seconds.unwrap_or_else(|| project_settings::number(&TIMEOUT_SECONDS));
    Ok(Config {
        base_url: outside(&BASE_URL.overrides)
            .or(own.base_url)
            .unwrap_or_else(|| project_settings::text(&BASE_URL)),
        timeout: Duration::try_from_secs_f64(seconds)
            .map_err(|_| ClientError::field("timeout_seconds", "must be 0.1 to 600"))?,
        retry_attempts: whole("retry_attempts", own.retry_attempts, &RETRY_ATTEMPTS)?,
        max_in_flight: whole("max_in_flight", own.max_in_flight, &MAX_IN_FLIGHT)?,
        allow_insecure_http: own.allow_insecure_http || project_settings::flag(&ALLOW_INSECURE_HTTP),
        tls_roots: tls_roots(
            &outside(&TLS_ROOTS.overrides)
                .or(own.tls_roots)
                .unwrap_or_else(|| project_settings::text(&TLS_ROOTS)),
        ),
        issuer: outside(&ISSUER.overrides).or(own.issuer).unwrap_or_else(|| project_settings::text(&ISSUER)),
        game: outside(&GAME.overrides).or(own.game).unwrap_or_else(|| project_settings::text(&GAME)),
    })
}

/// The certificate authorities for connections to others than the backend.
pub fn general_tls_roots() -> TlsRoots {
    let text = override_for(&TLS_ROOTS.overrides).unwrap_or_else(|| project_settings::text(&TLS_ROOTS));
    tls_roots(&text)
}

fn tls_roots(text: &str) -> TlsRoots {
    match text.trim() {
        "" | "platform" => TlsRoots::Platform,
        "bundled" => TlsRoots::Bundled,
        path => TlsRoots::File(globalized(path)),
    }
}

/// The profile that a node whose `config` and property are `own` and `named` keeps its session under.
pub fn profile(own: Option<&impl OwnSettings>, named: &str) -> (String, ProfileChoice) {
    let overrides = own.is_none_or(|own| own.values().use_overrides);
    let outside = if overrides { override_for(&PROFILE.overrides) } else { None };
    match outside {
        Some(profile) => (profile, ProfileChoice::Explicit),
        None => (named.to_owned(), ProfileChoice::Scene),
    }
}

/// Who chose a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileChoice {
    /// Whoever started this process, by argument or environment.
    Explicit,
    /// The scene, which is the same in every process.
    Scene,
}

fn whole<T: TryFrom<i64>>(field: &str, own: Option<i64>, setting: &ProjectSetting) -> Result<T, ClientError> {
    let value = own.unwrap_or_else(|| project_settings::integer(setting));
    T::try_from(value)
        .map_err(|_| ClientError::new(Fault::InvalidField, format!("{field}: {value} is out of range")))
        .map_err(|mut error| {
            error.field = Some(field.to_owned());
            error
        })
}
