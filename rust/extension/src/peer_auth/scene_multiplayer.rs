//! The adapter between `BackendPeerAuth` and its tree's `SceneMultiplayer`: installs the authentication callback, turns
//! the engine's signals into [`PeerEvent`]s, and detects when the game replaces the API or the peer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use godot::classes::multiplayer_peer::ConnectionStatus;
use godot::classes::{
    ENetMultiplayerPeer, ENetPacketPeer, MultiplayerApi, OfflineMultiplayerPeer, SceneMultiplayer,
    WebSocketMultiplayerPeer,
};
use godot::global::Error;
use godot::prelude::*;

use backend_client::peer_auth::protocol::{MAX_PACKET, Packet};
use backend_client::peer_auth::server::PeerId;

/// Minimum and maximum milliseconds after which ENet drops a peer that does not confirm its disconnection.
const LEAVE_TIMEOUT_MS: (i32, i32) = (500, 1_500);
/// ENet's own number of attempts within these.
const LEAVE_ATTEMPTS: i32 = 32;

/// Packets of one peer that are processed. The protocol needs one; the second refuses the peer.
const MAX_PACKETS: u8 = 2;

/// A signal of the engine, as plain data that can wait for the end of the frame.
pub enum PeerEvent {
    /// A peer has connected and is not authenticated yet.
    Authenticating(PeerId),
    /// A handshake packet; empty if it was too long.
    Packet(PeerId, Vec<u8>),
    /// A packet outside of the handshake that may have its form.
    UnexpectedPacket(PeerId, Vec<u8>),
    /// The engine has connected the peer.
    Connected(PeerId),
    /// A peer has disconnected, during or after authentication.
    PeerDisconnected(PeerId),
    /// The server has closed the connection of this client.
    ConnectionClosed,
}

/// The multiplayer API, with the calls that the handshake needs. Calls may run the game's signal handlers, so none of
/// them is made with a bind held.
#[derive(Clone)]
pub struct Api(pub Gd<SceneMultiplayer>);

/// An installed callback with its connected signals.
pub struct MultiplayerLink {
    pub api: Api,
    peer: Option<InstanceId>,
    callback: Callable,
    connections: Vec<(&'static str, Callable)>,
}

impl MultiplayerLink {
    /// Takes over the authentication of `api`. `on_event` is called while the engine polls.
    pub fn install(
        mut api: Gd<SceneMultiplayer>,
        timeout_seconds: f64,
        on_event: impl Fn(PeerEvent) + 'static,
    ) -> Self {
        let on_event = Rc::new(on_event);
        let counts: Rc<RefCell<HashMap<PeerId, u8>>> = Rc::default();

        let (on_packet, counted) = (Rc::clone(&on_event), Rc::clone(&counts));
        let callback = Callable::from_fn("BackendPeerAuth", move |arguments: &[&Variant]| {
            let Some((peer, bytes)) = peer_and_bytes(arguments) else { return };
            let mut counts = counted.borrow_mut();
            let count = counts.entry(peer).or_default();
            // A peer that floods must not fill the queue to the main loop's end.
            if *count < MAX_PACKETS {
                *count += 1;
                drop(counts);
                let bounded = if bytes.len() > MAX_PACKET { Vec::new() } else { bytes.to_vec() };
                on_packet(PeerEvent::Packet(peer, bounded));
            }
        });

        let mut connections = Vec::new();
        let mut listen = |signal: &'static str, callable: Callable| {
            api.connect(signal, &callable);
            connections.push((signal, callable));
        };
        let reset_counts = Rc::clone(&counts);
        listen(
            "peer_authenticating",
            on_peer(&on_event, move |peer| {
                // To a client every server is peer 1, and closing its own end emits no signal for the last one.
                reset_counts.borrow_mut().remove(&peer);
                PeerEvent::Authenticating(peer)
            }),
        );
        listen("peer_connected", on_peer(&on_event, PeerEvent::Connected));
        for signal in ["peer_authentication_failed", "peer_disconnected"] {
            let (on_event, counts) = (Rc::clone(&on_event), Rc::clone(&counts));
            listen(
                signal,
                on_peer(&on_event.clone(), move |peer| {
                    counts.borrow_mut().remove(&peer);
                    PeerEvent::PeerDisconnected(peer)
                }),
            );
            drop(on_event);
        }
        let on_unexpected = Rc::clone(&on_event);
        listen(
            "peer_packet",
            Callable::from_fn("BackendPeerAuth.aside", move |arguments: &[&Variant]| {
                // Packets of the game itself pass here as well; they are ignored.
                if let Some((peer, bytes)) =
                    peer_and_bytes(arguments).filter(|(_, bytes)| bytes.len() <= MAX_PACKET)
                {
                    on_unexpected(PeerEvent::UnexpectedPacket(peer, bytes.to_vec()));
                }
            }),
        );
        listen(
            "server_disconnected",
            Callable::from_fn("BackendPeerAuth.lost", move |_: &[&Variant]| {
                on_event(PeerEvent::ConnectionClosed);
            }),
        );

        api.set_auth_callback(&callback);
        api.set_auth_timeout(timeout_seconds);
        // An existing peer counts as new: the next check handles it.
        Self { api: Api(api), peer: None, callback, connections }
    }

    /// Whether `api` is still the one this link is tied to.
    pub fn is_for(&self, api: &Gd<MultiplayerApi>) -> bool {
        self.api.0.instance_id() == api.instance_id()
    }

    /// Whether the game has replaced the peer since the last call.
    pub fn peer_changed(&mut self) -> bool {
        let peer = self.api.peer_id();
        std::mem::replace(&mut self.peer, peer) != peer
    }

    /// Disconnects the signals, and removes the callback unless this is a server.
    pub fn release(mut self) {
        let serving = self.api.is_serving();
        let mut api = self.api.0;
        for (signal, callable) in &self.connections {
            if api.is_connected(*signal, callable) {
                api.disconnect(*signal, callable);
            }
        }
        // A server without its BackendPeerAuth accepts no peers: the callback stays and completes none.
        if !serving && api.get_auth_callback() == self.callback {
            api.set_auth_callback(&Callable::invalid());
        }
    }
}

impl Api {
    /// Whether this end is a connected server.
    pub fn is_serving(&mut self) -> bool {
        self.is_connected() && self.0.is_server()
    }

    /// Whether there is a real peer, connected or on its way.
    pub fn is_open(&mut self) -> bool {
        self.0.get_multiplayer_peer().is_some_and(|peer| {
            peer.get_connection_status() != ConnectionStatus::DISCONNECTED
                && peer.try_cast::<OfflineMultiplayerPeer>().is_err()
        })
    }

    /// Whether there is a live connection to send on.
    pub fn is_connected(&mut self) -> bool {
        self.0.get_multiplayer_peer().is_some_and(|peer| {
            peer.get_connection_status() == ConnectionStatus::CONNECTED
                && peer.try_cast::<OfflineMultiplayerPeer>().is_err()
        })
    }

    /// Sends a handshake packet if `peer` still waits for one.
    pub fn send(&mut self, peer: PeerId, packet: &Packet) {
        if self.is_waiting(peer) {
            let error = self.0.send_auth(peer, &PackedByteArray::from(packet.encode()));
            if error != Error::OK {
                tracing::debug!(peer, ?error, "handshake packet not sent");
            }
        }
    }

    /// Completes the authentication of `peer` on this end.
    pub fn complete(&mut self, peer: PeerId) {
        if self.is_waiting(peer) {
            let error = self.0.complete_auth(peer);
            if error != Error::OK {
                tracing::debug!(peer, ?error, "authentication not completed");
            }
        }
    }

    /// Sends a packet to a connected peer.
    pub fn send_connected(&mut self, peer: PeerId, packet: &Packet) {
        if self.is_in(peer) {
            let bytes = PackedByteArray::from(packet.encode());
            let error = self.0.send_bytes_ex(&bytes).id(peer).done();
            if error != Error::OK {
                tracing::debug!(peer, ?error, "reason not sent");
            }
        }
    }

    /// Closes the connection to a peer so that `peer_disconnected` is emitted, which
    /// `SceneMultiplayer.disconnect_peer` would suppress.
    pub fn disconnect(&mut self, peer: PeerId) {
        if !self.is_connected() || !(self.is_waiting(peer) || self.is_in(peer)) {
            return;
        }
        if let Some(mut connection) = self.enet_peer(peer) {
            let (earliest, latest) = LEAVE_TIMEOUT_MS;
            connection.set_timeout(LEAVE_ATTEMPTS, earliest, latest);
            connection.peer_disconnect();
        } else if let Some(mut connection) = self.0.get_multiplayer_peer() {
            connection.disconnect_peer(peer);
        }
    }

    /// Closes the connection to an unverified peer at once.
    ///
    /// With ENet through the connection itself, whatever id the peer chose: its place is free now, also if it never
    /// confirms, and the engine forgets it at the next poll, in order. Forgotten at once, as by
    /// `SceneMultiplayer.disconnect_peer`, its packets that are still queued would be errors in the log.
    pub fn disconnect_now(&mut self, peer: PeerId) {
        if !self.is_connected() || !self.is_known(peer) {
            return;
        }
        if let Some(mut connection) = self.enet_peer(peer) {
            connection.peer_disconnect_now();
        } else if is_one(peer) {
            self.0.disconnect_peer(peer);
        }
    }

    /// Where a peer's packets come from, if the transport knows it.
    pub fn address_of(&mut self, peer: PeerId) -> Option<IpAddr> {
        let address = match self.0.get_multiplayer_peer()?.try_cast::<WebSocketMultiplayerPeer>() {
            Ok(server) => (is_one(peer) && self.is_known(peer)).then(|| server.get_peer_address(peer)),
            Err(_) => self.enet_peer(peer).map(|connection| connection.get_remote_address()),
        };
        address?.to_string().parse().ok()
    }

    /// The connection itself, without a way through an id that may stand for several.
    fn enet_peer(&mut self, peer: PeerId) -> Option<Gd<ENetPacketPeer>> {
        // The engine logs an error for an id that it does not know.
        if !self.is_known(peer) {
            return None;
        }
        let enet = self.0.get_multiplayer_peer()?.try_cast::<ENetMultiplayerPeer>().ok()?;
        enet.get_peer(peer).filter(|connection| connection.is_active())
    }

    /// Closes this end.
    pub fn close(&mut self) {
        if let Some(mut connection) = self.0.get_multiplayer_peer() {
            connection.close();
        }
    }

    // Everything that is sent to a peer, or ends its connection by its id, checks one of these two first.
    fn is_waiting(&self, peer: PeerId) -> bool {
        is_one(peer) && self.0.get_authenticating_peers().as_slice().contains(&peer)
    }

    fn is_in(&mut self, peer: PeerId) -> bool {
        is_one(peer) && self.0.get_peers().as_slice().contains(&peer)
    }

    /// Whether the engine has a connection under this id, which may be one that nothing can be sent to.
    fn is_known(&mut self, peer: PeerId) -> bool {
        self.0.get_authenticating_peers().as_slice().contains(&peer)
            || self.0.get_peers().as_slice().contains(&peer)
    }

    fn peer_id(&mut self) -> Option<InstanceId> {
        self.0.get_multiplayer_peer().map(|peer| peer.instance_id())
    }
}

/// Whether an id names one peer. 0 is everybody to the engine, and -5 is everybody but 5.
const fn is_one(peer: PeerId) -> bool {
    peer > 0
}

fn on_peer<F: Fn(PeerEvent) + 'static>(
    on_event: &Rc<F>,
    event: impl Fn(PeerId) -> PeerEvent + 'static,
) -> Callable {
    let on_event = Rc::clone(on_event);
    Callable::from_fn("BackendPeerAuth.peer", move |arguments: &[&Variant]| {
        if let Some(peer) = arguments.first().and_then(|peer| peer.try_to::<PeerId>().ok()) {
            on_event(event(peer));
        }
    })
}

fn peer_and_bytes(arguments: &[&Variant]) -> Option<(PeerId, PackedByteArray)> {
    let [peer, bytes] = arguments else { return None };
    Some((peer.try_to().ok()?, bytes.try_to().ok()?))
}
