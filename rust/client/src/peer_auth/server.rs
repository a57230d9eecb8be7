//! The server side of peer authentication: which peers are connected, and which are being verified.
//!
//! No engine types: each event returns [`Effect`]s, which the node applies. A peer gets one credential
//! packet; whatever else it sends refuses it. Every asynchronous result names its attempt, so that a late one
//! affects no other peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::validation::Player;

use super::protocol::{Packet, Reason};
use super::refusal;

/// Most peers being verified at a time, whatever the limits say. The oldest silent one makes room for the next, so that
/// strangers cannot fill the memory.
pub const MAX_PENDING: usize = 256;
/// Most peers of one address whose tokens are being validated.
pub const MAX_VALIDATING_PER_ADDRESS: usize = 32;
/// Time in which no peer is cut for its silence: our client shows its token within a frame or two.
pub const SILENT_GRACE: Duration = Duration::from_millis(250);
/// The lowest id that a client can have. Below it are the server (1) and what the engine takes for several peers at once:
/// everybody (0), and everybody but one (negative ids). A raw ENet client chooses its own.
pub const FIRST_CLIENT: PeerId = 2;

/// A peer's id in the engine.
pub type PeerId = i32;

/// What the node has to do.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Effect {
    /// Start the time-out of this attempt, then call [`PeerAuthenticator::timed_out`].
    StartTimeout(PeerId, Attempt),
    /// Validate the token, then call [`PeerAuthenticator::validated`].
    Validate(PeerId, Attempt, String),
    /// Send the acceptance and complete the authentication.
    Accept(PeerId),
    /// Send the reason, emit it, and disconnect once the reason had time to arrive.
    Refuse(PeerId, Reason),
    /// The same for a peer that is connected already.
    RefuseConnected(PeerId, Reason),
    /// Emit the reason and disconnect without sending it: a peer that sent nothing may have completed its side, and sending to it
    /// is then an error of the engine. Our client derives the reason itself.
    RefuseSilently(PeerId, Reason),
    /// Disconnect now.
    Disconnect(PeerId),
    /// Call [`PeerAuthenticator::trim`] with this attempt once [`SILENT_GRACE`] is over.
    ScheduleTrim(Attempt),
    /// Emit that a player has joined.
    PlayerJoined(PeerId, Player),
    /// Emit that a player has left.
    PlayerLeft(PeerId, Player),
}

/// One attempt of one peer to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(u64);

/// Limits for peers that have not sent a credential. `None`: unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub total: Option<usize>,
    /// From one address.
    pub per_address: Option<usize>,
}

enum Stage {
    /// No credential received yet.
    Silent,
    /// The token is being validated.
    Validating,
    /// Verified; the engine has not connected the peer yet.
    Accepted(Player),
    /// Refused; about to be disconnected.
    Refused,
}

struct PendingPeer {
    attempt: Attempt,
    /// `None` if the transport does not know it.
    address: Option<IpAddr>,
    stage: Stage,
}

impl PendingPeer {
    /// Occupies a connection without a credential.
    const fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Silent | Stage::Refused)
    }
}

/// The server's peers.
#[derive(Default)]
pub struct PeerAuthenticator {
    pending: HashMap<PeerId, PendingPeer>,
    players: HashMap<PeerId, Player>,
    attempts: u64,
}

impl PeerAuthenticator {
    /// A peer has connected and must send a credential. `closed`: why no peer is accepted at the moment.
    pub fn peer_connecting(
        &mut self,
        peer: PeerId,
        address: Option<IpAddr>,
        limits: Limits,
        closed: Option<Reason>,
    ) -> Vec<Effect> {
        if peer < FIRST_CLIENT {
            return vec![Effect::Disconnect(peer)];
        }
        let address = address.map(network);
        let mut effects = Vec::new();
        if self.pending.len() >= MAX_PENDING {
            let Some(oldest) = self.idle(None).first().copied() else {
                return vec![Effect::Disconnect(peer)];
            };
            effects.push(self.evict(oldest));
        }
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        self.pending.insert(peer, PendingPeer { attempt, address, stage: Stage::Silent });
        if self.is_crowded(address, limits) {
            effects.push(Effect::ScheduleTrim(attempt));
        }
        match closed {
            Some(reason) => effects.extend(self.refuse(peer, reason)),
            None => effects.push(Effect::StartTimeout(peer, attempt)),
        }
        effects
    }

    /// Cuts the oldest silent peers that came no later than `newest`, until the limits hold.
    pub fn trim(&mut self, newest: Attempt, limits: Limits) -> Vec<Effect> {
        let mut effects = Vec::new();
        for peer in self.idle(Some(newest)) {
            let Some(pending_peer) = self.pending.get(&peer) else { continue };
            if self.is_crowded(pending_peer.address, limits) {
                effects.push(self.evict(peer));
            }
        }
        effects
    }

    /// Peers without a credential, the oldest first.
    fn idle(&self, newest: Option<Attempt>) -> Vec<PeerId> {
        let mut idle: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending_peer)| {
                pending_peer.is_idle() && newest.is_none_or(|newest| pending_peer.attempt <= newest)
            })
            .map(|(peer, pending_peer)| (pending_peer.attempt, *peer))
            .collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, peer)| peer).collect()
    }

    fn is_crowded(&self, address: Option<IpAddr>, limits: Limits) -> bool {
        let idle = || self.pending.values().filter(|pending_peer| pending_peer.is_idle());
        let here = || idle().filter(|pending_peer| pending_peer.address == address).count();
        limits.total.is_some_and(|most| idle().count() > most)
            || limits.per_address.is_some_and(|most| address.is_some() && here() > most)
    }

    fn evict(&mut self, peer: PeerId) -> Effect {
        self.pending.remove(&peer);
        Effect::Disconnect(peer)
    }

    /// A packet was received from a pending peer; `None` if it is malformed.
    pub fn packet(&mut self, peer: PeerId, packet: Option<Packet>) -> Vec<Effect> {
        let Some(address) = self.pending.get(&peer).map(|pending_peer| pending_peer.address) else {
            return Vec::new();
        };
        let busy = address.is_some() && self.validating_from(address) >= MAX_VALIDATING_PER_ADDRESS;
        let Some(pending_peer) = self.pending.get_mut(&peer) else { return Vec::new() };
        match (&pending_peer.stage, packet) {
            (Stage::Refused, _) => Vec::new(),
            (Stage::Silent, Some(Packet::Credential(_))) if busy => self.refuse(
                peer,
                Reason::new("rate_limited", "Too many players of this address are joining. Try again soon."),
            ),
            (Stage::Silent, Some(Packet::Credential(token))) => {
                pending_peer.stage = Stage::Validating;
                vec![Effect::Validate(peer, pending_peer.attempt, token)]
            }
            _ => self.refuse(
                peer,
                Reason::new(
                    refusal::HANDSHAKE_INVALID,
                    "The peer sent something other than one token or ticket.",
                ),
            ),
        }
    }

    /// The token of `attempt` was validated. `max_players`: how many players fit, `None` for any number.
    pub fn validated(
        &mut self,
        peer: PeerId,
        attempt: Attempt,
        outcome: Result<Player, Reason>,
        max_players: Option<usize>,
        closed: Option<Reason>,
    ) -> Vec<Effect> {
        let Some(pending_peer) = self.pending.get_mut(&peer) else { return Vec::new() };
        if pending_peer.attempt != attempt || !matches!(pending_peer.stage, Stage::Validating) {
            return Vec::new();
        }
        let player = match (outcome, closed) {
            (Err(reason), _) | (_, Some(reason)) => return self.refuse(peer, reason),
            (Ok(player), None) => player,
        };
        // The newer login counts: the older one may be a connection that died without saying so.
        let mut effects = self.refuse_other_connections(&player.player_id);
        if max_players.is_some_and(|max_players| self.count() >= max_players) {
            effects.extend(self.refuse(peer, Reason::new("room_full", "The room has no place left.")));
            return effects;
        }
        if let Some(pending_peer) = self.pending.get_mut(&peer) {
            pending_peer.stage = Stage::Accepted(player);
        }
        effects.push(Effect::Accept(peer));
        effects
    }

    /// The time of `attempt` is up.
    pub fn timed_out(&mut self, peer: PeerId, attempt: Attempt) -> Vec<Effect> {
        let reason = || Reason::new(refusal::AUTH_TIMEOUT, "The peer was not verified in time.");
        match self.pending.get(&peer) {
            Some(pending_peer) if pending_peer.attempt == attempt => match pending_peer.stage {
                Stage::Silent => {
                    self.pending.remove(&peer);
                    vec![Effect::RefuseSilently(peer, reason())]
                }
                Stage::Validating => self.refuse(peer, reason()),
                Stage::Refused | Stage::Accepted(_) => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// The engine has connected a peer.
    pub fn peer_connected(&mut self, peer: PeerId) -> Vec<Effect> {
        match self.pending.remove(&peer) {
            Some(PendingPeer { stage: Stage::Accepted(player), .. }) => {
                self.players.insert(peer, player.clone());
                vec![Effect::PlayerJoined(peer, player)]
            }
            // In without having been verified: somebody else's authentication callback. Not here.
            _ => vec![Effect::Disconnect(peer)],
        }
    }

    /// A peer has disconnected.
    pub fn peer_disconnected(&mut self, peer: PeerId) -> Vec<Effect> {
        self.pending.remove(&peer);
        self.players.remove(&peer).map(|player| Effect::PlayerLeft(peer, player)).into_iter().collect()
    }

    /// The game kicks a peer.
    pub fn kick(&mut self, peer: PeerId, reason: Reason) -> Vec<Effect> {
        match self.players.remove(&peer) {
            Some(player) => vec![Effect::PlayerLeft(peer, player), Effect::RefuseConnected(peer, reason)],
            None if self.pending.contains_key(&peer) => self.refuse(peer, reason),
            None => Vec::new(),
        }
    }

    /// Disconnects the players whose token was revoked, for the reason that `reason_for` returns.
    pub fn revoke(&mut self, reason_for: impl Fn(&Player) -> Option<Reason>) -> Vec<Effect> {
        let accepted = self.pending.iter().filter_map(|(peer, pending_peer)| match &pending_peer.stage {
            Stage::Accepted(player) => Some((peer, player)),
            _ => None,
        });
        let ended: Vec<(PeerId, Reason)> = (self.players.iter().chain(accepted))
            .filter_map(|(peer, player)| Some((*peer, reason_for(player)?)))
            .collect();
        ended.into_iter().flat_map(|(peer, reason)| self.kick(peer, reason)).collect()
    }

    /// All connections are closed.
    pub fn clear(&mut self) -> Vec<Effect> {
        self.pending.clear();
        std::mem::take(&mut self.players)
            .into_iter()
            .map(|(peer, player)| Effect::PlayerLeft(peer, player))
            .collect()
    }

    /// The player behind a peer that is verified.
    pub fn player(&self, peer: PeerId) -> Option<&Player> {
        self.players.get(&peer).or_else(|| match &self.pending.get(&peer)?.stage {
            Stage::Accepted(player) => Some(player),
            _ => None,
        })
    }

    /// The peer of a player who is in.
    pub fn peer_of(&self, player_id: &str) -> Option<PeerId> {
        self.players.iter().find(|(_, player)| player.player_id == player_id).map(|(peer, _)| *peer)
    }

    /// The players who are in.
    pub fn players(&self) -> impl Iterator<Item = &Player> {
        self.players.values()
    }

    /// Players who are in, and those who are about to be.
    pub fn count(&self) -> usize {
        let accepted = |pending_peer: &&PendingPeer| matches!(pending_peer.stage, Stage::Accepted(_));
        self.players.len() + self.pending.values().filter(accepted).count()
    }

    fn validating_from(&self, address: Option<IpAddr>) -> usize {
        let validated = |pending_peer: &&PendingPeer| {
            pending_peer.address == address && matches!(pending_peer.stage, Stage::Validating)
        };
        self.pending.values().filter(validated).count()
    }

    fn refuse(&mut self, peer: PeerId, reason: Reason) -> Vec<Effect> {
        if let Some(pending_peer) = self.pending.get_mut(&peer) {
            pending_peer.stage = Stage::Refused;
        }
        vec![Effect::Refuse(peer, reason)]
    }

    fn refuse_other_connections(&mut self, player_id: &str) -> Vec<Effect> {
        let reason = || Reason::new(refusal::REPLACED, "The same player connected again.");
        let mut effects = Vec::new();
        while let Some(peer) = self.peer_of(player_id) {
            effects.extend(self.kick(peer, reason()));
        }
        let same = |stage: &Stage| matches!(stage, Stage::Accepted(player) if player.player_id == player_id);
        let waiting =
            self.pending.iter().find(|(_, pending_peer)| same(&pending_peer.stage)).map(|(peer, _)| *peer);
        if let Some(peer) = waiting {
            effects.extend(self.refuse(peer, reason()));
        }
        effects
    }
}

/// What one person has: an IPv4 address, or the 64 bits of an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests;
