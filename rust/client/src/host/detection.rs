//! Which hosts run this process, by the environment and the machine's own description: no network traffic, and nothing that
//! takes time.

use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;

use super::{Agones, Azure, Ec2, Ecs, Gcp, Host};

/// Port of Agones' sidecar where the environment does not name one.
const AGONES_PORT: u16 = 9358;
const AGONES_VARIABLE: &str = "AGONES_SDK_HTTP_PORT";
#[cfg(target_os = "linux")]
const SYSTEMD_VARIABLE: &str = "NOTIFY_SOCKET";
const ECS_VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
const ECS_AGENT_VARIABLE: &str = "ECS_AGENT_URI";
/// Where the metadata services of clouds are.
const LINK_LOCAL: &str = "http://169.254.169.254";
/// Variables that name another place for them; the first two are the vendors' own.
const EC2_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const GCP_VARIABLE: &str = "GCE_METADATA_HOST";
const AZURE_VARIABLE: &str = "BACKEND_AZURE_METADATA_ENDPOINT";
/// Amazon's own variable for those who do not want the service to be asked.
const EC2_OFF_VARIABLE: &str = "AWS_EC2_METADATA_DISABLED";
const AZURE_APPROVAL_VARIABLE: &str = "BACKEND_AZURE_APPROVE_EVENTS";
/// What all machines of Azure have in this field, and none of Microsoft's own machines elsewhere.
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";
/// Hosts that are recognised by a variable, and that nothing is told yet.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("GAMELIFT_SDK_WEBSOCKET_URL", "Amazon GameLift Servers"),
    ("GAMELIFT_COMPUTE_TYPE", "Amazon GameLift Servers"),
    ("GSDK_CONFIG_FILE", "PlayFab Multiplayer Servers"),
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
    /// A task of Amazon ECS.
    Ecs,
    /// An instance of Amazon EC2, also where the machine does not say that it is one.
    Ec2,
    /// A virtual machine of Azure, likewise.
    Azure,
    /// A virtual machine of Google Compute Engine, likewise.
    Gcp,
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no host {0:?}: use auto, none, agones, ecs, ec2, azure, gcp or systemd")]
pub struct UnknownHost(String);

impl FromStr for HostChoice {
    type Err = UnknownHost;

    fn from_str(text: &str) -> Result<Self, UnknownHost> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "agones" => Ok(Self::Agones),
            "systemd" => Ok(Self::Systemd),
            "ecs" => Ok(Self::Ecs),
            "ec2" => Ok(Self::Ec2),
            "azure" => Ok(Self::Azure),
            "gcp" => Ok(Self::Gcp),
            _ => Err(UnknownHost(text.to_owned())),
        }
    }
}

/// What there is to be seen of the place where this process runs.
pub struct Surroundings<'a> {
    /// Reads the environment; `None` for what is empty.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a field of the machine's description, such as [`machine_field`] does.
    pub machine: &'a dyn Fn(&str) -> Option<String>,
    /// This process, as it sees itself.
    pub pid: u32,
}

/// A field of what the firmware says about the machine (DMI), such as `sys_vendor`. Nothing outside of Linux.
pub fn machine_field(name: &str) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let text = std::fs::read_to_string(format!("/sys/class/dmi/id/{name}")).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
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

/// Finds the hosts of this process.
pub fn detect(choice: HostChoice, surroundings: &Surroundings<'_>) -> Detected {
    let mut search = Search { surroundings, found: Detected::default() };
    let mut reasons = Vec::new();
    match choice {
        HostChoice::None => {
            return Detected { summary: "no host: none is to be used".to_owned(), ..search.found };
        }
        HostChoice::Agones => reasons.push(search.agones()),
        HostChoice::Systemd => reasons.extend(search.systemd(true)),
        HostChoice::Ecs => reasons.extend(search.ecs(true)),
        HostChoice::Ec2 => reasons.extend(search.ec2(true)),
        HostChoice::Azure => reasons.extend(search.azure(true)),
        HostChoice::Gcp => reasons.extend(search.gcp(true)),
        HostChoice::Auto => reasons = search.everything(),
    }
    let how = if choice == HostChoice::Auto { "" } else { ", as it is to be used" };
    search.found.summary = if reasons.is_empty() {
        "no host: no variable of one is set, and this is no machine of a known cloud".to_owned()
    } else {
        format!("host: {}{how}", reasons.join("; "))
    };
    search.found
}

struct Search<'a> {
    surroundings: &'a Surroundings<'a>,
    found: Detected,
}

impl Search<'_> {
    fn everything(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        let unsupported = UNSUPPORTED.iter().find(|(name, _)| self.variable(name).is_some());
        let is_agones = (self.surroundings.variable)(AGONES_VARIABLE).is_some();
        if is_agones {
            reasons.push(self.agones());
        } else if let Some((name, host)) = unsupported {
            reasons.push(format!("{host} ({name} is set), to which this version does not speak"));
        } else if let Some(reason) = self.ecs(false) {
            // Not the machine as well: a task has an address of its own, and its agent hears of the machine's end.
            reasons.push(reason);
        }
        if is_agones || reasons.is_empty() {
            let cloud = self.ec2(false).or_else(|| self.azure(false)).or_else(|| self.gcp(false));
            reasons.extend(cloud);
        }
        reasons.extend(self.systemd(false));
        reasons
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.surroundings.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Whether a field of the machine's description begins with this.
    fn machine_is(&self, field: &str, start: &str) -> bool {
        (self.surroundings.machine)(field).is_some_and(|text| text.trim().starts_with(start))
    }

    fn add(&mut self, host: impl Host + 'static) {
        self.found.hosts.push(Arc::new(host));
    }

    fn warn(&mut self, warning: String) {
        self.found.warnings.push(warning);
    }

    fn agones(&mut self) -> String {
        let given = (self.surroundings.variable)(AGONES_VARIABLE);
        let port = given.as_deref().map(|text| text.trim().parse::<u16>().ok().filter(|port| *port > 0));
        if port == Some(None) {
            let text = given.unwrap_or_default();
            self.warn(format!(
                "{AGONES_VARIABLE} must be a port from 1 to 65535, not {text:?}; {AGONES_PORT} is used instead"
            ));
        }
        let is_set = port.is_some();
        let port = port.flatten().unwrap_or(AGONES_PORT);
        self.add(Agones::new(port));
        if is_set {
            format!("Agones (sidecar at port {port}, by {AGONES_VARIABLE})")
        } else {
            format!("Agones (sidecar at port {port}, because {AGONES_VARIABLE} is not set)")
        }
    }

    fn ecs(&mut self, is_forced: bool) -> Option<String> {
        let Some(metadata) = self.variable(ECS_VARIABLE) else {
            if !is_forced {
                return None;
            }
            self.warn(format!(
                "{ECS_VARIABLE} is not set: outside of a task of ECS, there is nobody to be asked"
            ));
            return Some(format!("Amazon ECS ({ECS_VARIABLE} is not set)"));
        };
        let Some(metadata) = self.base(ECS_VARIABLE, &metadata) else {
            return Some(format!("Amazon ECS ({ECS_VARIABLE} is set, but cannot be used)"));
        };
        let agent = self.variable(ECS_AGENT_VARIABLE);
        let agent = agent.and_then(|agent| self.base(ECS_AGENT_VARIABLE, &agent));
        self.add(Ecs::new(&metadata, agent.as_deref()));
        Some(format!("Amazon ECS ({ECS_VARIABLE} is set)"))
    }

    fn ec2(&mut self, is_forced: bool) -> Option<String> {
        let is_off = self.variable(EC2_OFF_VARIABLE).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let is_machine = || {
            let is_vendor =
                ["sys_vendor", "board_vendor"].iter().any(|field| self.machine_is(field, "Amazon EC2"));
            // Older types of instances.
            let version = (self.surroundings.machine)("bios_version");
            is_vendor || version.is_some_and(|version| version.trim().ends_with(".amazon"))
        };
        if is_off && !is_forced {
            return None;
        }
        let (base, why) = self.cloud(EC2_VARIABLE, LINK_LOCAL, is_forced, is_machine())?;
        self.add(Ec2::new(&base));
        Some(format!("Amazon EC2 ({why})"))
    }

    fn azure(&mut self, is_forced: bool) -> Option<String> {
        let is_machine = self.machine_is("chassis_asset_tag", AZURE_ASSET_TAG);
        let (base, why) = self.cloud(AZURE_VARIABLE, LINK_LOCAL, is_forced, is_machine)?;
        let approves = match self.variable(AZURE_APPROVAL_VARIABLE).as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(text) => {
                let text = text.to_owned();
                self.warn(format!(
                    "{AZURE_APPROVAL_VARIABLE} must be true or false, not {text:?}; nothing is approved"
                ));
                false
            }
        };
        self.add(Azure::new(&base, approves));
        Some(format!("Azure ({why})"))
    }

    fn gcp(&mut self, is_forced: bool) -> Option<String> {
        let is_machine = self.machine_is("product_name", "Google Compute Engine");
        let (base, why) = self.cloud(GCP_VARIABLE, LINK_LOCAL, is_forced, is_machine)?;
        self.add(Gcp::new(&base));
        Some(format!("Google Compute Engine ({why})"))
    }

    /// Where the metadata service is and why it is asked; `None`: it is not.
    fn cloud(
        &mut self,
        name: &str,
        default: &str,
        is_forced: bool,
        is_machine: bool,
    ) -> Option<(String, String)> {
        let given = self.variable(name);
        // Google's own variable has a host and a port only.
        let given = given.map(|text| if text.contains("://") { text } else { format!("http://{text}") });
        if let Some(base) = given.and_then(|given| self.base(name, &given)) {
            return Some((base, format!("{name} is set")));
        }
        let why = match (is_machine, is_forced) {
            (true, _) => "by the machine's description",
            (false, true) => "not by the machine's description",
            (false, false) => return None,
        };
        Some((default.to_owned(), why.to_owned()))
    }

    /// The URL in a variable, if it can be used.
    fn base(&mut self, name: &str, text: &str) -> Option<String> {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
        if url.is_none() {
            self.warn(format!("{name} must be a URL that begins with http://, not {text:?}; it is not used"));
        }
        url.map(|_| text.to_owned())
    }

    #[cfg(target_os = "linux")]
    fn systemd(&mut self, is_forced: bool) -> Option<String> {
        let Surroundings { variable, pid, .. } = *self.surroundings;
        match super::Systemd::from_environment(variable, pid) {
            Some(Ok(systemd)) => {
                self.add(systemd);
                Some(format!("systemd ({SYSTEMD_VARIABLE} is set)"))
            }
            Some(Err(error)) => {
                self.warn(format!("the service manager receives no notifications: {error}"));
                Some(format!("systemd ({SYSTEMD_VARIABLE} is set, but cannot be used)"))
            }
            None if is_forced => {
                self.warn(format!(
                    "the service manager receives no notifications: {SYSTEMD_VARIABLE} is not set; the unit needs Type=notify"
                ));
                Some(format!("systemd ({SYSTEMD_VARIABLE} is not set)"))
            }
            None => None,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn systemd(&mut self, is_forced: bool) -> Option<String> {
        if is_forced {
            self.warn("there is no systemd on this system".to_owned());
        }
        None
    }
}
