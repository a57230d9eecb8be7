//! What hosts tell a server, and what they are told of it.

use backend_client::host::{HostChoice, Players, Session};
use godot::prelude::*;

use super::BackendServerRegistration;
use crate::class_enum::class_enum;
use crate::shutdown::host_notifier::{self, Listener, TimeLeft};
use crate::shutdown::{registry, requests};
use crate::variant_json::gstring;

/// The values of the property `host`, for the Inspector.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum HostKind {
    #[default]
    Auto = 0,
    None = 1,
    Agones = 2,
    Systemd = 3,
    Ecs = 4,
    Ec2 = 5,
    Azure = 6,
    Gcp = 7,
}

class_enum! {
    BackendServerRegistration::HOST_KIND: "HostKind" {
        /// The hosts are detected: Agones by [code]AGONES_SDK_HTTP_PORT[/code], Amazon ECS by
        /// [code]ECS_CONTAINER_METADATA_URI_V4[/code], systemd by [code]NOTIFY_SOCKET[/code], and machines of Amazon EC2, Azure and
        /// Google Compute Engine by the description of the machine, on Linux and in exported projects. There can be several.
        HOST_AUTO = HostKind::Auto as i64;
        /// No host. Nothing is reported to one.
        HOST_NONE = HostKind::None as i64;
        /// A GameServer of Agones.
        HOST_AGONES = HostKind::Agones as i64;
        /// A service of systemd.
        HOST_SYSTEMD = HostKind::Systemd as i64;
        /// A task of Amazon ECS.
        HOST_ECS = HostKind::Ecs as i64;
        /// An instance of Amazon EC2, even if the machine is not detected as one.
        HOST_EC2 = HostKind::Ec2 as i64;
        /// A virtual machine of Azure, even if the machine is not detected as one.
        HOST_AZURE = HostKind::Azure as i64;
        /// A virtual machine of Google Compute Engine, even if the machine is not detected as one.
        HOST_GCP = HostKind::Gcp as i64;
    }
}

impl From<HostKind> for HostChoice {
    fn from(kind: HostKind) -> Self {
        match kind {
            HostKind::Auto => Self::Auto,
            HostKind::None => Self::None,
            HostKind::Agones => Self::Agones,
            HostKind::Systemd => Self::Systemd,
            HostKind::Ecs => Self::Ecs,
            HostKind::Ec2 => Self::Ec2,
            HostKind::Azure => Self::Azure,
            HostKind::Gcp => Self::Gcp,
        }
    }
}

/// The registrations that were used, as long as their nodes are there.
fn nodes() -> impl Iterator<Item = Gd<BackendServerRegistration>> {
    registry::registration_nodes().into_iter().filter_map(|id| Gd::try_from_instance_id(id).ok())
}

/// Main thread. Registers the servers anew where players reach them now.
fn address_changed() {
    nodes().for_each(|node| node.bind().update_description());
}

/// Main thread. Gives the session back if there is no node to be told.
fn allocated(session: Session) -> Option<Session> {
    let mut untold = Some(&session);
    for node in nodes() {
        node.signals().allocated().emit(&dictionary(&session));
        untold = None;
    }
    untold.is_some().then_some(session)
}

/// Main thread.
fn notice(reason: &str, left: TimeLeft) {
    let seconds = match left {
        TimeLeft::Known(left) => left.as_secs_f64(),
        TimeLeft::Unknown => requests::grace().as_secs_f64(),
        TimeLeft::Unlimited => f64::INFINITY,
    };
    for node in nodes() {
        node.signals().host_notice().emit(reason, seconds);
    }
}

fn dictionary(session: &Session) -> VarDictionary {
    let texts = |texts: &std::collections::BTreeMap<String, String>| {
        let pairs = texts.iter().map(|(key, value)| (gstring(key).to_variant(), gstring(value).to_variant()));
        pairs.collect::<VarDictionary>()
    };
    let mut fields = VarDictionary::new();
    fields.set("host", session.host);
    fields.set("name", &gstring(&session.name));
    fields.set("labels", &texts(&session.labels));
    fields.set("annotations", &texts(&session.annotations));
    fields
}

impl BackendServerRegistration {
    /// The hosts list the players with the node's values of now.
    pub(super) fn publish_players(&self) {
        host_notifier::players_changed(&Players {
            count: u32::try_from(self.players).unwrap_or_default(),
            capacity: u32::try_from(self.max_players).unwrap_or_default(),
            ids: self.player_ids.values().cloned().collect(),
        });
    }

    /// The node has entered the scene tree.
    pub(super) fn choose_host(&self) {
        host_notifier::set_listener(Listener { address_changed, allocated, notice });
        // Another node may have chosen.
        if self.host != HostKind::Auto {
            self.choose_host_anew();
        }
    }

    pub(super) fn choose_host_anew(&self) {
        if !host_notifier::choose(self.host.into()) {
            tracing::warn!(
                "host was changed after it was detected, without effect: set it before the scene is ready"
            );
        }
    }
}
