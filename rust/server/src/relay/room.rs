//! A live room: who is in it, and who receives what.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use backend_protocol::registration::Revocation;
use backend_protocol::relay::{CloseReason, Control, Data, Delivery, HOST_PEER, VERSION};
use backend_protocol::validation::Claims;
use metrics::Counter;
use quinn::{Connection, SendStream};
use rand::RngExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::budget::{Budget, Rate};
use super::member::Member;

/// Messages that a room's players receive, and their bytes.
const MESSAGES: Rate = Rate { per_second: 50_000.0, burst: 200_000.0 };
const BYTES: Rate = Rate { per_second: 16.0 * 1024.0 * 1024.0, burst: 256.0 * 1024.0 * 1024.0 };

/// From so many used tickets on, those that have expired are forgotten.
const MAX_USED_TICKETS: usize = 1_024;
/// Longer than a ticket is accepted, with all that clocks may differ by.
const FORGET_AFTER_SECONDS: u64 = 300;

/// A room that a player hosts.
pub struct Room {
    pub id: String,
    /// What the room passes on.
    pub budget: Budget,
    pub traffic: Traffic,
    /// Notified when the number of players, or the used tickets, have changed.
    pub changed: Notify,
    /// Cancelled when the room is over.
    pub ended: CancellationToken,
    host_player_id: String,
    max_players: usize,
    state: Mutex<State>,
}

/// What players receive, counted for all rooms.
pub struct Traffic {
    messages: Counter,
    bytes: Counter,
    dropped: Counter,
}

impl Traffic {
    fn new() -> Self {
        Self {
            messages: metrics::counter!("backend_relay_messages_total"),
            bytes: metrics::counter!("backend_relay_bytes_total"),
            dropped: metrics::counter!("backend_relay_messages_dropped_total"),
        }
    }

    /// A message for so many is beyond a budget.
    pub fn dropped(&self, receivers: usize) {
        self.dropped.increment(receivers as u64);
    }
}

#[derive(Default)]
struct State {
    members: BTreeMap<u32, Arc<Member>>,
    /// Tickets that were used, by their id, with their `exp`. Those that have expired are good for nobody anyway.
    used_tickets: HashMap<String, u64>,
    /// Those that the list does not know of.
    unreported: Vec<String>,
    revoked: Vec<Revocation>,
    /// Whether the host lets nobody in.
    is_closed: bool,
    has_ended: bool,
}

impl Room {
    pub fn new(id: String, host_player_id: String, max_players: u32) -> Self {
        metrics::gauge!("backend_relay_rooms").increment(1);
        Self {
            id,
            budget: Budget::new(MESSAGES, BYTES, Instant::now()),
            traffic: Traffic::new(),
            changed: Notify::new(),
            ended: CancellationToken::new(),
            host_player_id,
            max_players: max_players as usize,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this player hosts it.
    pub fn is_hosted_by(&self, player_id: &str) -> bool {
        self.host_player_id == player_id
    }

    /// Whether the host has connected.
    pub fn has_host(&self) -> bool {
        self.state().members.contains_key(&HOST_PEER)
    }

    /// Uses a ticket up, once.
    pub fn use_ticket(&self, claims: &Claims) -> Result<(), CloseReason> {
        let mut state = self.state();
        if state.used_tickets.contains_key(&claims.jti) {
            return Err(CloseReason::TicketUsed);
        }
        if state.used_tickets.len() >= MAX_USED_TICKETS {
            let now = unix_seconds();
            state.used_tickets.retain(|_, expires| *expires + FORGET_AFTER_SECONDS > now);
        }
        state.used_tickets.insert(claims.jti.clone(), claims.exp);
        state.unreported.push(claims.jti.clone());
        Ok(())
    }

    /// Lets a player in and tells everybody.
    pub fn admit(
        &self,
        claims: &Claims,
        connection: Connection,
        stream: SendStream,
    ) -> Result<Arc<Member>, CloseReason> {
        let mut state = self.state();
        // Also for those who are turned away: their seats are free again.
        self.changed.notify_one();
        if state.has_ended {
            return Err(CloseReason::RoomUnknown);
        }
        if is_revoked(&state.revoked, &claims.sub, claims.iat) {
            return Err(CloseReason::Revoked);
        }
        let has_host = state.members.contains_key(&HOST_PEER);
        let is_host = self.is_hosted_by(&claims.sub);
        let former = state.members.values().find(|member| member.player_id == claims.sub).cloned();
        let peer = match (is_host, has_host) {
            (true, false) => HOST_PEER,
            // With whom the room would end.
            (true, true) => return Err(CloseReason::JoinedAgain),
            (false, false) => return Err(CloseReason::HostAbsent),
            (false, true) => {
                let others = state.members.len() - usize::from(former.is_some());
                if state.is_closed || others >= self.max_players {
                    return Err(CloseReason::RoomClosed);
                }
                free_number(&state.members)
            }
        };
        if let Some(former) = former {
            remove(&mut state, former.peer, CloseReason::JoinedAgain);
            former.end(CloseReason::JoinedAgain);
        }
        let member = Arc::new(Member::new(peer, claims, connection, stream));
        member.send_control(&Control::Welcome { version: VERSION, peer });
        for other in state.members.values() {
            member.send_control(&joined(other));
            other.send_control(&joined(&member));
        }
        state.members.insert(peer, Arc::clone(&member));
        Ok(member)
    }

    /// A player is gone. If it was the host, the room is over.
    pub fn leave(&self, member: &Arc<Member>, reason: CloseReason) {
        let mut state = self.state();
        // Who has joined again, or was removed, is not there any more.
        let is_there = state.members.get(&member.peer).is_some_and(|there| Arc::ptr_eq(there, member));
        if is_there {
            remove(&mut state, member.peer, reason);
            self.changed.notify_one();
        }
        drop(state);
        if is_there && member.is_host() {
            self.end(CloseReason::HostLeft);
        }
    }

    /// Removes a player. The host cannot be.
    pub fn kick(&self, peer: u32) {
        if peer != HOST_PEER {
            self.turn_out(|member| member.peer == peer, CloseReason::Kicked);
        }
    }

    /// Whether players are let in.
    pub fn set_accepting(&self, accepts: bool) {
        self.state().is_closed = !accepts;
    }

    /// Disconnects players whose tokens were revoked, and admits none of them any more.
    pub fn revoke(&self, revocations: Vec<Revocation>) {
        if revocations.is_empty() {
            return;
        }
        let is_out = |member: &Member| is_revoked(&revocations, &member.player_id, member.issued_at);
        let host_is_out = self.state().members.get(&HOST_PEER).is_some_and(|host| is_out(host));
        self.turn_out(is_out, CloseReason::Revoked);
        // The same ones come again and again within a minute. Nobody comes with a ticket that is older.
        let (mut state, now) = (self.state(), unix_seconds());
        state.revoked.retain(|revocation| revocation.before + FORGET_AFTER_SECONDS > now);
        for revocation in revocations {
            if revocation.before + FORGET_AFTER_SECONDS > now && !state.revoked.contains(&revocation) {
                state.revoked.push(revocation);
            }
        }
        drop(state);
        if host_is_out {
            self.end(CloseReason::HostLeft);
        }
    }

    fn turn_out(&self, is_out: impl Fn(&Member) -> bool, reason: CloseReason) {
        let mut state = self.state();
        let out: Vec<_> = state.members.values().filter(|member| is_out(member)).cloned().collect();
        for member in out {
            remove(&mut state, member.peer, reason);
            member.end(reason);
            self.changed.notify_one();
        }
    }

    /// Ends the room for everybody.
    pub fn end(&self, reason: CloseReason) {
        let members = {
            let mut state = self.state();
            state.has_ended = true;
            std::mem::take(&mut state.members)
        };
        for member in members.values() {
            member.end(reason);
        }
        self.ended.cancel();
    }

    /// Players, and the ids of tickets that were used since the last time, at most `most`.
    pub fn report(&self, most: usize) -> (u32, Vec<String>) {
        let mut state = self.state();
        let count = state.unreported.len().min(most);
        let tickets = state.unreported.drain(..count).collect();
        (u32::try_from(state.members.len()).unwrap_or(u32::MAX), tickets)
    }

    /// Reports these tickets again: the list did not hear of them.
    pub fn report_again(&self, tickets: Vec<String>) {
        self.state().unreported.extend(tickets);
    }

    /// Who receives what `sender` sends to `target`, as [`Data::peer`] names them.
    pub fn receivers(&self, sender: &Member, target: i32) -> Vec<Arc<Member>> {
        let state = self.state();
        if let Ok(peer @ 1..) = u32::try_from(target) {
            let receiver = state.members.get(&peer).filter(|_| peer != sender.peer);
            return receiver.cloned().into_iter().collect();
        }
        let excluded = target.unsigned_abs();
        let others = state.members.values();
        others.filter(|one| one.peer != sender.peer && one.peer != excluded).cloned().collect()
    }
}

/// Sends a message on, in the name of who has sent it.
pub fn forward(traffic: &Traffic, sender: &Member, receivers: &[Arc<Member>], data: &Data<'_>) {
    traffic.messages.increment(receivers.len() as u64);
    traffic.bytes.increment((receivers.len() * data.encoded_len()) as u64);
    let stamped = Data { peer: i32::try_from(sender.peer).unwrap_or_default(), ..*data };
    let (mut for_stream, mut for_datagram) = (None::<Bytes>, None::<Bytes>);
    for receiver in receivers {
        if data.delivery != Delivery::Reliable && receiver.takes_datagram(stamped.encoded_len()) {
            let frame = for_datagram.get_or_insert_with(|| {
                let mut frame = Vec::new();
                stamped.write(&mut frame);
                frame.into()
            });
            receiver.send_datagram(frame.clone());
        } else {
            let frame = for_stream.get_or_insert_with(|| stamped.with_length().into());
            receiver.send_stream(data.channel, frame.clone());
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        metrics::gauge!("backend_relay_rooms").decrement(1);
    }
}

fn joined(member: &Member) -> Control<'_> {
    Control::Joined { peer: member.peer, player_id: &member.player_id, display_name: &member.display_name }
}

fn remove(state: &mut State, peer: u32, reason: CloseReason) {
    if state.members.remove(&peer).is_some() {
        for other in state.members.values() {
            other.send_control(&Control::Left { peer, reason: reason.number() });
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A number as Godot gives them: not the host's, and hard to guess.
fn free_number(members: &BTreeMap<u32, Arc<Member>>) -> u32 {
    loop {
        let number = rand::rng().random_range(HOST_PEER + 1..=i32::MAX as u32);
        if !members.contains_key(&number) {
            return number;
        }
    }
}

fn is_revoked(revocations: &[Revocation], player_id: &str, issued_at: u64) -> bool {
    revocations.iter().any(|revocation| revocation.player_id == player_id && issued_at <= revocation.before)
}

#[cfg(test)]
mod tests;
