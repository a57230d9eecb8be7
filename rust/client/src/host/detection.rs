//! Which hosts run this process, by the environment alone: no network traffic, and nothing that takes time.

use std::str::FromStr;
use std::sync::Arc;

use super::{Agones, Host};

/// Port of Agones' sidecar where the environment does not name one.
const AGONES_PORT: u16 = 9358;
const AGONES_VARIABLE: &str = "AGONES_SDK_HTTP_PORT";
#[cfg(target_os = "linux")]
const SYSTEMD_VARIABLE: &str = "NOTIFY_SOCKET";
/// Hosts that are recognised by a variable, and that nothing is told yet.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("GAMELIFT_SDK_WEBSOCKET_URL", "Amazon GameLift Servers"),
    ("GAMELIFT_COMPUTE_TYPE", "Amazon GameLift Servers"),
    ("GSDK_CONFIG_FILE", "PlayFab Multiplayer Servers"),
    ("ECS_CONTAINER_METADATA_URI_V4", "Amazon ECS"),
];

/// Which host is to be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostChoice {
    /// All that are found.
    #[default]
    Auto,
    /// None.
    None,
    /// Agones, also where its variables are missing.
    Agones,
    /// systemd.
    Systemd,
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no host {0:?}: use auto, none, agones or systemd")]
pub struct UnknownHost(String);

impl FromStr for HostChoice {
    type Err = UnknownHost;

    fn from_str(text: &str) -> Result<Self, UnknownHost> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "agones" => Ok(Self::Agones),
            "systemd" => Ok(Self::Systemd),
            _ => Err(UnknownHost(text.to_owned())),
        }
    }
}

/// What was found.
#[derive(Default)]
pub struct Detected {
    /// The hosts, the one that knows most first.
    pub hosts: Vec<Arc<dyn Host>>,
    /// One line for a person: which hosts, and why.
    pub summary: String,
    /// What could not be used, and what to do about it.
    pub warnings: Vec<String>,
}

/// Finds the hosts of this process. `variable` reads the environment and gives `None` for what is empty; `pid` is this process,
/// as it sees itself.
pub fn detect(choice: HostChoice, variable: impl Fn(&str) -> Option<String>, pid: u32) -> Detected {
    let mut found = Detected::default();
    let mut reasons = Vec::new();
    match choice {
        HostChoice::None => {
            return Detected { summary: "no host: none is to be used".to_owned(), ..found };
        }
        HostChoice::Agones => reasons.push(agones(&mut found, &variable)),
        HostChoice::Systemd => reasons.extend(systemd(&mut found, &variable, pid, true)),
        HostChoice::Auto => {
            if variable(AGONES_VARIABLE).is_some() {
                reasons.push(agones(&mut found, &variable));
            } else if let Some((name, host)) = UNSUPPORTED.iter().find(|(name, _)| variable(name).is_some()) {
                reasons.push(format!("{host} ({name} is set), to which this version does not speak"));
            }
            reasons.extend(systemd(&mut found, &variable, pid, false));
        }
    }
    let how = if choice == HostChoice::Auto { "" } else { ", as it is to be used" };
    found.summary = if reasons.is_empty() {
        "no host: neither AGONES_SDK_HTTP_PORT nor NOTIFY_SOCKET is set".to_owned()
    } else {
        format!("host: {}{how}", reasons.join("; "))
    };
    found
}

fn agones(found: &mut Detected, variable: &impl Fn(&str) -> Option<String>) -> String {
    let given = variable(AGONES_VARIABLE);
    let port = given.as_deref().map(|text| text.trim().parse::<u16>().ok().filter(|port| *port > 0));
    if port == Some(None) {
        let text = given.unwrap_or_default();
        found.warnings.push(format!(
            "{AGONES_VARIABLE} must be a port from 1 to 65535, not {text:?}; {AGONES_PORT} is used instead"
        ));
    }
    let is_set = port.is_some();
    let port = port.flatten().unwrap_or(AGONES_PORT);
    found.hosts.push(Arc::new(Agones::new(port)));
    if is_set {
        format!("Agones (sidecar at port {port}, by {AGONES_VARIABLE})")
    } else {
        format!("Agones (sidecar at port {port}, because {AGONES_VARIABLE} is not set)")
    }
}

#[cfg(target_os = "linux")]
fn systemd(
    found: &mut Detected,
    variable: &impl Fn(&str) -> Option<String>,
    pid: u32,
    is_forced: bool,
) -> Option<String> {
    match super::Systemd::from_environment(variable, pid) {
        Some(Ok(systemd)) => {
            found.hosts.push(Arc::new(systemd));
            Some(format!("systemd ({SYSTEMD_VARIABLE} is set)"))
        }
        Some(Err(error)) => {
            found.warnings.push(format!("the service manager receives no notifications: {error}"));
            Some(format!("systemd ({SYSTEMD_VARIABLE} is set, but cannot be used)"))
        }
        None if is_forced => {
            found.warnings.push(format!(
                "the service manager receives no notifications: {SYSTEMD_VARIABLE} is not set; the unit needs Type=notify"
            ));
            Some(format!("systemd ({SYSTEMD_VARIABLE} is not set)"))
        }
        None => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn systemd(
    found: &mut Detected,
    _variable: &impl Fn(&str) -> Option<String>,
    _pid: u32,
    is_forced: bool,
) -> Option<String> {
    if is_forced {
        found.warnings.push("there is no systemd on this system".to_owned());
    }
    None
}
