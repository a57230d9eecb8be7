//! Answers to queries over UDP: what is published, and when the sockets open.

use std::time::Duration;

use backend_client::error::ClientError;
use backend_client::server_query::{Facts, Interface, Participant, QueryOptions, ServerQuery};
use godot::classes::ProjectSettings;
use godot::prelude::*;

use super::BackendServerRegistration;
use crate::config;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::{network_interfaces, worker_threads};

/// Time in which a network that comes up after the server learns of it.
const NETWORK_INTERVAL: Duration = Duration::from_secs(30);

/// Queries of one node are answered until it is dropped.
pub struct Answering {
    query: ServerQuery,
    _each_frame: FrameHook,
    _networks: FrameHook,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.query.close();
    }
}

/// Sockets that are about to be opened, on a worker.
pub struct Opening {
    query: ServerQuery,
    options: QueryOptions,
    interfaces: Vec<Interface>,
}

impl Opening {
    /// Worker. The port that answers, or none: the server runs on without it.
    pub fn open(self) -> Option<u16> {
        let port = self.query.open(self.options).inspect_err(|error| tracing::warn!("{error}")).ok()?;
        self.query.join_networks(|| self.interfaces);
        Some(port)
    }

    /// Opens the sockets without registering the server.
    pub fn open_alone(self) {
        worker_threads::spawn(async move {
            self.open();
        });
    }
}

impl BackendServerRegistration {
    /// Publishes what is answered, if queries are answered, and returns what remains to be opened.
    pub fn begin_answering(&self) -> Result<Option<Opening>, ClientError> {
        if !self.query_enabled || godot::init::is_editor_hint() {
            self.stop_answering();
            return Ok(None);
        }
        let options =
            QueryOptions { port: config::query_port(self.query_port)?, lan_discovery: self.lan_discovery };
        let stall = Duration::try_from_secs_f64(self.main_loop_stall_seconds)
            .map_err(|_| ClientError::field("main_loop_stall_seconds", "must be 1 or more"))?;
        let query = self.query().unwrap_or_else(|| {
            let query = ServerQuery::new(config::clock(), stall);
            let turning = query.clone();
            let joining = query.clone();
            self.answering.replace(Some(Answering {
                query: query.clone(),
                _each_frame: FrameHook::new(move || turning.main_loop_turned()),
                _networks: FrameHook::every(NETWORK_INTERVAL, move || {
                    joining.join_networks(network_interfaces::list);
                }),
            }));
            query
        });
        self.publish();
        let interfaces = if options.lan_discovery { network_interfaces::list() } else { Vec::new() };
        Ok(Some(Opening { query, options, interfaces }))
    }

    /// Closes the sockets.
    pub fn stop_answering(&self) {
        drop(self.answering.take());
    }

    /// The port that answers.
    pub fn bound_query_port(&self) -> Option<u16> {
        self.query()?.port()
    }

    /// A player whom [`super::super::backend_peer_auth`] has admitted.
    pub fn add_participant(&mut self, peer: i32, player_id: &str, name: &str) {
        let participant = Participant { name: name.to_owned(), joined: config::clock().now() };
        self.participants.insert(peer, participant);
        self.player_ids.insert(peer, player_id.to_owned());
        self.publish();
        self.publish_players();
    }

    /// The player has left.
    pub fn remove_participant(&mut self, peer: i32) {
        self.player_ids.remove(&peer);
        if self.participants.remove(&peer).is_some() {
            self.publish();
            self.publish_players();
        }
    }

    /// Queries are answered with the node's values of now.
    pub fn publish(&self) {
        let Some(query) = self.query() else { return };
        // What was published before stays, as the entry in the room list does.
        let Ok(description) = self.description() else { return };
        let participant = |known: &Participant| Participant {
            name: if self.query_player_names { known.name.clone() } else { String::new() },
            joined: known.joined,
        };
        query.publish(Facts {
            description,
            game: game_name(),
            room_id: self.listed_as(),
            players: u32::try_from(self.players).unwrap_or_default(),
            draining: self.is_draining(),
            participants: self.participants.values().map(participant).collect(),
            ..Facts::default()
        });
    }

    fn query(&self) -> Option<ServerQuery> {
        self.answering.borrow().as_ref().map(|answering| answering.query.clone())
    }
}

#[godot_api(secondary)]
impl BackendServerRegistration {
    /// Returns the UDP port that is open for queries, or 0 if none is.
    #[func]
    fn get_bound_query_port(&self) -> i64 {
        self.bound_query_port().map_or(0, i64::from)
    }
}

/// The project's name.
fn game_name() -> String {
    let name = ProjectSettings::singleton().get_setting("application/config/name");
    name.try_to::<GString>().unwrap_or_default().to_string()
}
