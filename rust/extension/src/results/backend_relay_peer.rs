//! `BackendRelayPeer`: the engine's interface to a connection to the relay.

use std::collections::{BTreeMap, VecDeque};

use backend_client::protocol::relay::{CloseReason, HOST_PEER, MAX_CHANNELS, MAX_MESSAGE};
use backend_client::relay::{self, Event, Message, Peer, RelayConnection, SendError};
use godot::classes::multiplayer_peer::{ConnectionStatus, TransferMode};
use godot::classes::{IMultiplayerPeerExtension, MultiplayerPeerExtension};
use godot::global::Error;
use godot::meta::conv::RawPtr;
use godot::prelude::*;

use crate::runtime::background_tasks;
use crate::variant_json::gstring;

/// Most events that one [`poll`](IMultiplayerPeerExtension::poll) takes: the engine handles all of their packets in the same frame.
const MAX_EVENTS: usize = 1_024;

/// A [MultiplayerPeer] of a room that a player hosts through the relay. [BackendRelay] creates and connects it.
///
/// Assign it to [member MultiplayerAPI.multiplayer_peer]. The host has id 1. The three transfer modes and channels 0 to 31 are supported,
/// and a packet has at most 1 MiB. Unreliable packets of about 1,100 bytes or more are sent reliably. All members of a room see each
/// other, and packets between them do not pass through the host. When the connection ends, [signal MultiplayerAPI.server_disconnected] is
/// emitted, also for the host, and [member close_reason] is set.
#[derive(GodotClass)]
#[class(no_init, tool, base = MultiplayerPeerExtension)]
pub struct BackendRelayPeer {
    /// Why the connection has ended: [code]left[/code], [code]connection_lost[/code], [code]kicked[/code], [code]host_left[/code],
    /// [code]room_ended[/code], [code]relay_stopping[/code], [code]revoked[/code], [code]joined_again[/code], [code]too_slow[/code] or
    /// [code]protocol_error[/code]. Empty while it is connected.
    #[var(get = get_close_reason, no_set)]
    close_reason: PhantomVar<GString>,
    connection: Connected,
    unique_id: i32,
    /// Taken, and to be handled in a later frame.
    events: VecDeque<Event>,
    packets: VecDeque<Message>,
    /// The packet that the engine reads, which must stay where it is until the next one.
    current: Option<Message>,
    peers: BTreeMap<u32, Peer>,
    target: i32,
    channel: i32,
    mode: TransferMode,
    refuses: bool,
    ended_with: Option<CloseReason>,
    base: Base<MultiplayerPeerExtension>,
}

/// A connection that is left properly, whoever drops it.
struct Connected(Option<RelayConnection>);

impl Connected {
    fn leave(&mut self) {
        if let Some(connection) = self.0.take() {
            // What was sent arrives also if the game quits now.
            background_tasks::spawn(connection.leave());
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.leave();
    }
}

#[godot_api]
impl BackendRelayPeer {
    /// Returns the player id of a peer, which the relay has verified, or an empty string if there is no such peer.
    #[func]
    fn get_player_id(&self, peer_id: i32) -> GString {
        self.peer(peer_id).map(|peer| gstring(&peer.player_id)).unwrap_or_default()
    }

    /// Returns the display name of a peer, or an empty string if there is no such peer.
    #[func]
    fn get_display_name(&self, peer_id: i32) -> GString {
        self.peer(peer_id).map(|peer| gstring(&peer.display_name)).unwrap_or_default()
    }

    #[func]
    fn get_close_reason(&self) -> GString {
        self.ended_with.map(|reason| gstring(reason.as_str())).unwrap_or_default()
    }

    fn peer(&self, peer_id: i32) -> Option<&Peer> {
        self.peers.get(&u32::try_from(peer_id).ok()?)
    }

    /// Main thread. The peer of a connection.
    pub fn connected(connection: RelayConnection) -> Gd<Self> {
        Gd::from_init_fn(|base| Self {
            close_reason: PhantomVar::default(),
            unique_id: id(connection.peer()),
            connection: Connected(Some(connection)),
            events: VecDeque::new(),
            packets: VecDeque::new(),
            current: None,
            peers: BTreeMap::new(),
            target: 0,
            channel: 0,
            mode: TransferMode::RELIABLE,
            refuses: false,
            ended_with: None,
            base,
        })
    }

    /// Whether the event may be handled before the packets that were taken are read. A packet of a peer that has left is lost.
    fn can_handle(&self, event: &Event) -> bool {
        self.packets.is_empty() || matches!(event, Event::Message(_) | Event::Joined(_))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Joined(peer) => {
                let number = peer.peer;
                self.peers.insert(number, peer);
                // Handlers call back into this object.
                self.base_mut().emit_signal("peer_connected", &[id(number).to_variant()]);
            }
            Event::Left(number, _) => {
                self.base_mut().emit_signal("peer_disconnected", &[id(number).to_variant()]);
                self.peers.remove(&number);
            }
            Event::Message(message) => self.packets.push_back(message),
            Event::Closed(reason) => {
                let gone: Vec<_> = self.peers.keys().copied().collect();
                for number in gone {
                    self.base_mut().emit_signal("peer_disconnected", &[id(number).to_variant()]);
                }
                self.end(reason);
            }
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.ended_with.get_or_insert(reason);
        self.connection.leave();
        self.events.clear();
        self.packets.clear();
        self.peers.clear();
    }
}

/// Numbers on the wire are those of Godot.
fn id(peer: u32) -> i32 {
    i32::try_from(peer).unwrap_or_default()
}

#[godot_api]
impl IMultiplayerPeerExtension for BackendRelayPeer {
    fn poll(&mut self) {
        if let Some(connection) = self.connection.0.as_ref().filter(|_| self.events.is_empty()) {
            self.events.extend(connection.take(MAX_EVENTS));
        }
        while self.events.front().is_some_and(|event| self.can_handle(event)) {
            let Some(event) = self.events.pop_front() else { break };
            self.handle(event);
        }
    }

    fn get_available_packet_count(&self) -> i32 {
        self.packets.len() as i32
    }

    unsafe fn get_packet_rawptr(
        &mut self,
        r_buffer: RawPtr<*mut RawPtr<*const u8>>,
        r_buffer_size: RawPtr<*mut i32>,
    ) -> Error {
        self.current = self.packets.pop_front();
        let Some(message) = &self.current else { return Error::ERR_UNAVAILABLE };
        // SAFETY: the engine passes two valid places to write to, and reads the packet before the next call.
        unsafe {
            r_buffer.ptr().cast::<*const u8>().write(message.payload.as_ptr());
            r_buffer_size.ptr().write(message.payload.len() as i32);
        }
        Error::OK
    }

    unsafe fn put_packet_rawptr(&mut self, p_buffer: RawPtr<*const u8>, p_buffer_size: i32) -> Error {
        let Some(connection) = &self.connection.0 else { return Error::ERR_UNCONFIGURED };
        let (Ok(length), Ok(channel)) = (usize::try_from(p_buffer_size), u8::try_from(self.channel)) else {
            return Error::ERR_INVALID_PARAMETER;
        };
        let payload = if length == 0 {
            &[]
        } else {
            // SAFETY: the engine passes a buffer of this length, which lives until this returns.
            unsafe { std::slice::from_raw_parts(p_buffer.ptr(), length) }
        };
        let mode = match self.mode {
            TransferMode::UNRELIABLE => relay::TransferMode::Unreliable,
            TransferMode::UNRELIABLE_ORDERED => relay::TransferMode::UnreliableOrdered,
            _ => relay::TransferMode::Reliable,
        };
        match connection.send(mode, channel, self.target, payload) {
            Ok(()) => Error::OK,
            Err(SendError::TooLong) => Error::ERR_OUT_OF_MEMORY,
            Err(SendError::Channel) => Error::ERR_INVALID_PARAMETER,
            Err(SendError::Closed) => Error::ERR_CONNECTION_ERROR,
        }
    }

    fn get_max_packet_size(&self) -> i32 {
        MAX_MESSAGE as i32
    }

    fn get_packet_channel(&self) -> i32 {
        self.packets.front().map_or(0, |message| message.channel.into())
    }

    fn get_packet_mode(&self) -> TransferMode {
        match self.packets.front().map(|message| message.mode) {
            Some(relay::TransferMode::Unreliable) => TransferMode::UNRELIABLE,
            Some(relay::TransferMode::UnreliableOrdered) => TransferMode::UNRELIABLE_ORDERED,
            Some(relay::TransferMode::Reliable) | None => TransferMode::RELIABLE,
        }
    }

    fn get_packet_peer(&self) -> i32 {
        self.packets.front().map_or(0, |message| id(message.peer))
    }

    fn set_transfer_channel(&mut self, p_channel: i32) {
        if !(0..MAX_CHANNELS.into()).contains(&p_channel) {
            godot_error!("BackendRelayPeer: channels are 0 to {}, not {p_channel}", MAX_CHANNELS - 1);
        }
        self.channel = p_channel;
    }

    fn get_transfer_channel(&self) -> i32 {
        self.channel
    }

    fn set_transfer_mode(&mut self, p_mode: TransferMode) {
        self.mode = p_mode;
    }

    fn get_transfer_mode(&self) -> TransferMode {
        self.mode
    }

    fn set_target_peer(&mut self, p_peer: i32) {
        self.target = p_peer;
    }

    fn is_server(&self) -> bool {
        self.unique_id == id(HOST_PEER)
    }

    /// The relay passes packets between all members already.
    fn is_server_relay_supported(&self) -> bool {
        false
    }

    fn close(&mut self) {
        self.end(CloseReason::Left);
    }

    fn disconnect_peer(&mut self, p_peer: i32, _p_force: bool) {
        match (u32::try_from(p_peer), &self.connection.0) {
            (Ok(HOST_PEER), _) => self.end(CloseReason::Left),
            (Ok(peer), Some(connection)) if self.is_server() => connection.kick(peer),
            _ => godot_error!("BackendRelayPeer: only the host can disconnect other peers"),
        }
    }

    fn get_unique_id(&self) -> i32 {
        self.unique_id
    }

    fn set_refuse_new_connections(&mut self, p_enable: bool) {
        self.refuses = p_enable;
        if let Some(connection) = self.connection.0.as_ref().filter(|_| self.is_server()) {
            connection.set_accepting(!p_enable);
        }
    }

    fn is_refusing_new_connections(&self) -> bool {
        self.refuses
    }

    fn get_connection_status(&self) -> ConnectionStatus {
        if self.connection.0.is_some() { ConnectionStatus::CONNECTED } else { ConnectionStatus::DISCONNECTED }
    }
}
