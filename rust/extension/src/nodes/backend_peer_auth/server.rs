//! The server's side: carries out what the roster decides.

use backend_client::error::ClientError;
use backend_client::protocol::registration::RevocationReason;
use backend_client::protocol::validation::TokenKind;
use backend_client::protocol::{Code, Problem};
use backend_client::revocations::Revocations;
use backend_client::validation::Player;
use godot::prelude::*;

use super::{BackendPeerAuth, LINGER, api_of, node};
use crate::peer_auth::scene_multiplayer::PeerEvent;
use crate::results::backend_error::Failure;
use crate::results::backend_player::BackendPlayer;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;
use backend_client::peer_auth::protocol::{Packet, Reason};
use backend_client::peer_auth::server::{Attempt, Effect, PeerAuthenticator, PeerId, SILENT_GRACE};

/// Something happened on a server.
pub fn happened(this: Gd<BackendPeerAuth>, event: PeerEvent) {
    match event {
        PeerEvent::Authenticating(peer) => {
            let address = api_of(&this).and_then(|mut api| api.address_of(peer));
            let limits = this.bind().limits();
            with_authenticator(this, |roster, closed| roster.knock(peer, address, limits, closed));
        }
        PeerEvent::Packet(peer, bytes) => {
            with_authenticator(this, |roster, _| roster.packet(peer, Packet::decode(&bytes).ok()));
        }
        PeerEvent::Connected(peer) => with_authenticator(this, |roster, _| roster.admitted(peer)),
        PeerEvent::PeerDisconnected(peer) => with_authenticator(this, |roster, _| roster.gone(peer)),
        // The game's own packets.
        PeerEvent::UnexpectedPacket(..) | PeerEvent::Lost => {}
    }
}

/// Changes the roster, then carries out what follows from it.
pub fn with_authenticator(
    mut this: Gd<BackendPeerAuth>,
    change: impl FnOnce(&mut PeerAuthenticator, Option<Reason>) -> Vec<Effect>,
) {
    let (effects, count) = {
        let mut auth = this.bind_mut();
        let closed = auth.closed();
        let before = auth.roster.count();
        let effects = change(&mut auth.roster, closed);
        let count = auth.roster.count();
        (effects, (count != before).then_some(count))
    };
    let registration = this.bind().registration().cloned();
    if let (Some(mut registration), Some(count)) = (registration, count) {
        registration.bind_mut().set_players(count as i64);
    }
    for effect in effects {
        // A handler of the one before may have freed the node.
        if this.is_instance_valid() {
            carry_out(&this, effect);
        }
    }
}

fn carry_out(this: &Gd<BackendPeerAuth>, effect: Effect) {
    let id = this.instance_id();
    match effect {
        Effect::Watch(peer, attempt) => {
            let patience = this.bind().patience();
            worker_threads::run_on_main_after(patience, move || {
                if let Some(this) = node(id) {
                    with_authenticator(this, |roster, _| roster.timed_out(peer, attempt));
                }
            });
        }
        Effect::Validate(peer, attempt, token) => validate(this, peer, attempt, token),
        Effect::Accept(peer) => {
            if let Some(mut api) = api_of(this) {
                api.send(peer, &Packet::Accepted);
                api.complete(peer);
            }
        }
        Effect::Refuse(peer, reason) => {
            if let Some(mut api) = api_of(this) {
                api.send(peer, &Packet::Refused(reason.clone()));
            }
            disconnect_soon(id, peer);
            tell_refusal(this, peer, reason);
        }
        Effect::Dismiss(peer, reason) => {
            if let Some(mut api) = api_of(this) {
                api.send_aside(peer, &Packet::Refused(reason.clone()));
            }
            disconnect_soon(id, peer);
            tell_refusal(this, peer, reason);
        }
        Effect::Drop(peer, reason) => {
            if let Some(mut api) = api_of(this) {
                api.cut(peer);
            }
            tell_refusal(this, peer, reason);
        }
        Effect::Disconnect(peer) => {
            if let Some(mut api) = api_of(this) {
                api.cut(peer);
            }
        }
        Effect::Trim(newest) => worker_threads::run_on_main_after(SILENT_GRACE, move || {
            if let Some(this) = node(id) {
                trim(this, newest);
            }
        }),
        Effect::Joined(peer, player) => {
            tracing::debug!(peer, player = %player.player_id, "a player is in");
            this.signals().peer_verified().emit(i64::from(peer), &BackendPlayer::object(Ok(player.into())));
        }
        Effect::Left(peer, player) => {
            this.signals().peer_left().emit(i64::from(peer), &BackendPlayer::object(Ok(player.into())));
        }
    }
}

/// Cuts silent peers that are too many, and says so, but not for each of a flood.
fn trim(mut this: Gd<BackendPeerAuth>, newest: Attempt) {
    let limits = this.bind().limits();
    let mut cut = 0;
    with_authenticator(this.clone(), |roster, _| {
        let effects = roster.trim(newest, limits);
        cut = effects.len();
        effects
    });
    if cut > 0 && this.is_instance_valid() && this.bind_mut().may_warn_of_crowd() {
        tracing::warn!(
            "connections that showed no ticket were closed, because there were too many of them; further ones are not \
             logged for a minute. See BackendPeerAuth.max_pending_per_address and max_pending"
        );
    }
}

fn tell_refusal(this: &Gd<BackendPeerAuth>, peer: PeerId, reason: Reason) {
    let error = Failure::new(reason.code, reason.message).into_object();
    this.signals().peer_refused().emit(i64::from(peer), &error);
}

/// Sends players away whose tokens ended before their time, if the last heartbeat told of any.
pub fn revoke(mut this: Gd<BackendPeerAuth>) {
    let Some(listed) = this.bind().listed() else { return };
    let revocations = listed.revocations();
    let version = revocations.version();
    if this.bind().revoked_up_to == version {
        return;
    }
    this.bind_mut().revoked_up_to = version;
    with_authenticator(this, |roster, _| roster.revoke(|player| ended(revocations, player)));
}

/// Why the token that a player was admitted with is no longer good.
fn ended(revocations: &Revocations, player: &Player) -> Option<Reason> {
    let reason = revocations.reason(&player.player_id, player.issued_at)?;
    Some(match reason {
        RevocationReason::Banned => Reason::new("banned", "This account may not play."),
        RevocationReason::SessionsEnded | RevocationReason::Unknown => {
            Reason::new("session_ended", "The session was ended. Log in again.")
        }
    })
}

fn validate(this: &Gd<BackendPeerAuth>, peer: PeerId, attempt: Attempt, token: String) {
    let id = this.instance_id();
    let judge = this.clone().bind_mut().judge();
    let conclude = move |verdict: Result<Player, ClientError>| {
        let Some(this) = node(id) else { return };
        let (places, accept_access_tokens) = {
            let auth = this.bind();
            (auth.places(), auth.accept_access_tokens)
        };
        let verdict = verdict.and_then(|player| match player.kind {
            TokenKind::Access if !accept_access_tokens => {
                Err(Problem::new(Code::TokenInvalid, "this server wants a join ticket").into())
            }
            _ => Ok(player),
        });
        let listed = this.bind().listed();
        let verdict = verdict.map_err(|error| Reason::new(error.code(), error.message.to_string()));
        // It may have ended while it was judged.
        let verdict =
            verdict.and_then(|player| match listed.and_then(|listed| ended(listed.revocations(), &player)) {
                Some(reason) => Err(reason),
                None => Ok(player),
            });
        with_authenticator(this, |roster, closed| roster.judged(peer, attempt, verdict, places, closed));
    };
    worker_threads::spawn(async move {
        let verdict = match judge {
            Ok((validator, listed)) => {
                if let Some(listed) = &listed {
                    validator.follow(listed);
                }
                let server_id = listed.and_then(|registration| registration.server_id());
                validator.validate(&token, server_id.as_deref()).await
            }
            Err(error) => Err(error),
        };
        main_thread_queue::enqueue(move || conclude(verdict));
    });
}

/// Closes the connection to `peer` once what was sent had time to arrive, unless it is gone by then.
fn disconnect_soon(id: InstanceId, peer: PeerId) {
    worker_threads::run_on_main_after(LINGER, move || {
        if let Some(mut api) = node(id).and_then(|this| api_of(&this)) {
            api.hang_up(peer);
        }
    });
}
