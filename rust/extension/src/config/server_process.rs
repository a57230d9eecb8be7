//! What a server process takes from its environment: its mode, its key, its host.

use std::path::Path;
use std::time::Duration;

use backend_client::ServerKey;
use backend_client::error::{ClientError, Fault};
use backend_client::host::{Detected, HostChoice, Surroundings, detect, machine_field};
use backend_settings::{
    ALLOCATION_ID, DOCTOR, GRACE_SECONDS, HOST, MODE, PUBLIC_ADDRESS, QUERY_PORT, SERVER_KEY, SERVER_KEY_FILE,
};
use godot::classes::Os;
use godot::obj::Singleton;

use crate::config::overrides::{argument, environment, has_flag, override_for};
use crate::config::project_settings;

/// The server key: from the environment or a file, and from nowhere else.
pub fn server_key() -> Result<ServerKey, ClientError> {
    if let Some(path) = SERVER_KEY_FILE.overrides.argument.and_then(argument) {
        return ServerKey::read(Path::new(&path));
    }
    if let Some(key) = override_for(&SERVER_KEY.overrides) {
        return ServerKey::parse(&key);
    }
    match override_for(&SERVER_KEY_FILE.overrides) {
        Some(path) => ServerKey::read(Path::new(&path)),
        None => Err(ClientError::new(
            Fault::NotConfigured,
            "no server key: set BACKEND_SERVER_KEY or BACKEND_SERVER_KEY_FILE in the server's environment",
        )),
    }
}

/// The hosts of this process. `own`: what the game chose.
pub fn detect_hosts(own: HostChoice) -> Detected {
    let text = override_for(&HOST.overrides);
    let parsed = text.as_deref().map(str::parse::<HostChoice>);
    let (choice, refused) = match parsed {
        Some(Ok(choice)) => (choice, None),
        Some(Err(error)) => (own, Some(format!("BACKEND_HOST is not used: {error}"))),
        None => (own, None),
    };
    // A developer's machine may be one of a cloud, where players of a first try are on the same machine.
    let machine = |name: &str| if is_development_run() { None } else { machine_field(name) };
    let surroundings = Surroundings { variable: &environment, machine: &machine, pid: std::process::id() };
    let mut detected = detect(choice, &surroundings);
    detected.warnings.extend(refused);
    detected
}

/// Address of this machine for players: override, node, project setting. `None`: what the host reports.
pub fn public_address(own: &str) -> Option<String> {
    let address = override_for(&PUBLIC_ADDRESS.overrides)
        .or_else(|| (!own.is_empty()).then(|| own.to_owned()))
        .unwrap_or_else(|| project_settings::text(&PUBLIC_ADDRESS));
    (address != "auto" && !address.is_empty()).then_some(address)
}

/// UDP port that answers queries: override, node. 0 for one that the system chooses.
pub fn query_port(own: i64) -> Result<u16, ClientError> {
    let port = match override_for(&QUERY_PORT.overrides) {
        Some(text) => text.parse().ok(),
        None => u16::try_from(own).ok(),
    };
    port.ok_or_else(|| ClientError::field("query_port", "must be 0 to 65535, here and in BACKEND_QUERY_PORT"))
}

/// What the backend has started this process for.
pub fn allocation_id() -> Option<String> {
    override_for(&ALLOCATION_ID.overrides)
}

/// Time from a termination request to the end of the process. 0 and less count as not set.
pub fn shutdown_grace(own_seconds: f64) -> Duration {
    let seconds = override_for(&GRACE_SECONDS.overrides)
        .and_then(|text| text.parse().ok())
        .filter(|seconds: &f64| *seconds > 0.0)
        .or_else(|| (own_seconds > 0.0).then_some(own_seconds))
        .unwrap_or_else(|| project_settings::number(&GRACE_SECONDS));
    Duration::try_from_secs_f64(seconds.clamp(1.0, 3_600.0)).unwrap_or(Duration::from_secs(25))
}

/// Whether this process is a dedicated server: forced by `BACKEND_MODE`, else exported as one or started with
/// `--server`.
pub fn is_dedicated_server() -> bool {
    match MODE.overrides.environment.and_then(environment).as_deref() {
        Some("server") => true,
        Some("client") => false,
        _ => Os::singleton().has_feature("dedicated_server") || MODE.overrides.argument.is_some_and(has_flag),
    }
}

/// Whether this process was started only to be checked.
pub fn wants_doctor() -> bool {
    DOCTOR.overrides.argument.is_some_and(has_flag)
}

/// Whether the game runs from the editor's binary, as it does when a developer tries it.
pub fn is_development_run() -> bool {
    Os::singleton().has_feature("editor")
}
