//! What players see of a server, and which parts of it the backend does not have yet.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use backend_protocol::registration::{Heartbeat, RegisterServer};
use backend_protocol::rooms::{Attributes, RoomPassword, RoomVisibility};

/// What players see of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerDescription {
    /// Name players see, 1 to 64 characters.
    pub name: String,
    /// Where players connect.
    pub address: String,
    /// Port players connect to.
    pub port: u16,
    /// UDP port that answers queries.
    pub query_port: Option<u16>,
    /// Map being played.
    pub map: String,
    /// Mode being played.
    pub mode: String,
    /// Where the server stands.
    pub region: String,
    /// Version of the game.
    pub version: String,
    /// Free tags.
    pub tags: Vec<String>,
    /// Places in all.
    pub max_players: u32,
    /// The certificate players have to insist on, PEM. See [`crate::peer_auth::dtls`].
    pub certificate: Option<String>,
    /// Who finds the room.
    pub visibility: RoomVisibility,
    /// The room's password; empty: none.
    pub password: RoomPassword,
    /// Custom attributes.
    pub attributes: Attributes,
}

/// What the entry should say, and what it was last made to say.
#[derive(Default)]
pub(super) struct Entry {
    described: Mutex<Option<ServerDescription>>,
    /// By a registration, or a heartbeat that was answered; also one that was refused for what it says.
    entered: Mutex<Option<ServerDescription>>,
    /// The backend may have an older entry than it had: heartbeats carry all that they can, until one is answered.
    unsure: AtomicBool,
    /// The backend has started this server, and may have given its room a password that the game does not know.
    is_allocated: AtomicBool,
    /// The next heartbeat asks for another invite code.
    renew_invite_code: AtomicBool,
    /// The game has changed the entry since [`Self::take_change`].
    was_changed: AtomicBool,
}

impl Entry {
    pub(super) fn described(&self) -> Option<ServerDescription> {
        lock(&self.described).clone()
    }

    pub(super) fn set(&self, description: ServerDescription) {
        *lock(&self.described) = Some(description);
    }

    /// Whether that changed anything. The certificate stays the one that was registered.
    pub(super) fn change(&self, mut description: ServerDescription) -> bool {
        let mut described = lock(&self.described);
        if let Some(before) = described.as_ref() {
            description.certificate.clone_from(&before.certificate);
        }
        let changed = described.as_ref() != Some(&description);
        *described = Some(description);
        drop(described);
        if changed {
            self.was_changed.store(true, Ordering::Relaxed);
        }
        changed
    }

    /// Whether the game has changed the entry since the last call: more changes may follow in the same frame.
    pub(super) fn take_change(&self) -> bool {
        self.was_changed.swap(false, Ordering::Relaxed)
    }

    /// Notes what a registration is about to say; gives what was noted before.
    pub(super) fn entering(&self, description: ServerDescription) -> Option<ServerDescription> {
        lock(&self.entered).replace(description)
    }

    /// The registration may not have arrived.
    pub(super) fn not_entered(&self, before: Option<ServerDescription>) {
        *lock(&self.entered) = before;
    }

    /// Whether players see something else than what heartbeats can put right.
    pub(super) fn is_outdated(&self) -> bool {
        let (described, entered) = (lock(&self.described), lock(&self.entered));
        let (Some(described), Some(entered)) = (described.as_ref(), entered.as_ref()) else { return false };
        let ports = |server: &ServerDescription| (server.port, server.query_port);
        (&described.name, &described.address, ports(described), &described.region, &described.version)
            != (&entered.name, &entered.address, ports(entered), &entered.region, &entered.version)
    }

    pub(super) fn set_allocated(&self) {
        self.is_allocated.store(true, Ordering::Relaxed);
    }

    /// The backend went back to a backup.
    pub(super) fn rolled_back(&self) {
        self.unsure.store(true, Ordering::Relaxed);
    }

    pub(super) fn renew_invite_code(&self) {
        self.renew_invite_code.store(true, Ordering::Relaxed);
    }

    /// Fills in what the heartbeat carries of the entry: what is small always, the rest when it has changed.
    pub(super) fn fill(&self, beat: &mut Heartbeat) {
        let (described, entered) = (lock(&self.described), lock(&self.entered));
        let Some(described) = described.as_ref() else { return };
        let unsure = self.unsure.load(Ordering::Relaxed);
        let entered = entered.as_ref().filter(|_| !unsure);
        beat.map = Some(described.map.clone());
        beat.mode = Some(described.mode.clone());
        beat.max_players = Some(described.max_players);
        beat.tags = Some(described.tags.clone());
        let changed = |is_same: fn(&ServerDescription, &ServerDescription) -> bool| {
            entered.is_none_or(|entered| !is_same(described, entered))
        };
        beat.visibility =
            changed(|one, other| one.visibility == other.visibility).then_some(described.visibility);
        beat.password =
            changed(|one, other| one.password == other.password).then(|| described.password.clone());
        if unsure && described.password.is_empty() && self.is_allocated.load(Ordering::Relaxed) {
            beat.password = None;
        }
        beat.attributes =
            changed(|one, other| one.attributes == other.attributes).then(|| described.attributes.clone());
        beat.new_invite_code = self.renew_invite_code.load(Ordering::Relaxed);
    }

    /// The heartbeat was answered: the backend has what it carried.
    pub(super) fn confirm(&self, beat: &Heartbeat) {
        self.unsure.store(false, Ordering::Relaxed);
        if beat.new_invite_code {
            self.renew_invite_code.store(false, Ordering::Relaxed);
        }
        let mut entered = lock(&self.entered);
        let Some(entered) = entered.as_mut() else { return };
        if let Some(visibility) = beat.visibility {
            entered.visibility = visibility;
        }
        if let Some(password) = &beat.password {
            entered.password.clone_from(password);
        }
        if let Some(attributes) = &beat.attributes {
            entered.attributes.clone_from(attributes);
        }
    }
}

/// The registration of a server that is described like this.
pub(super) fn request(instance_id: &str, described: ServerDescription, players: u32) -> RegisterServer {
    RegisterServer {
        instance_id: instance_id.to_owned(),
        name: described.name,
        address: described.address,
        port: described.port,
        query_port: described.query_port,
        map: described.map,
        mode: described.mode,
        region: described.region,
        version: described.version,
        tags: described.tags,
        players,
        max_players: described.max_players,
        certificate: described.certificate,
        visibility: described.visibility,
        password: described.password,
        attributes: described.attributes,
        allocation_id: None,
        relay: false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
