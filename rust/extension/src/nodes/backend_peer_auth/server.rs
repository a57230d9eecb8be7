//! The server's side: applies the authenticator's effects.

use backend_client::error::ClientError;
use backend_client::protocol::registration::RevocationReason;
use backend_client::protocol::validation::TokenKind;
use backend_client::protocol::{Code, Problem};
use backend_client::registration::revocations::Revocations;
use backend_client::validation::Player;
use godot::prelude::*;

use super::{BackendPeerAuth, REFUSAL_DELAY, api_of, node};
use crate::metrics;
use crate::peer_auth::scene_multiplayer::PeerEvent;
use crate::results::backend_error::Failure;
use crate::results::backend_player::BackendPlayer;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;
use backend_client::peer_auth::protocol::{Packet, Reason};
use backend_client::peer_auth::refusal;
use backend_client::peer_auth::server::{Attempt, Effect, PeerAuthenticator, PeerId, SILENT_GRACE};

/// Handles an event on a server.
pub fn handle_event(this: Gd<BackendPeerAuth>, event: PeerEvent) {
    match event {
        PeerEvent::Authenticating(peer) => {
            let address = api_of(&this).and_then(|mut api| api.address_of(peer));
            let limits = this.bind().limits();
            with_authenticator(this, |authenticator, closed| {
                authenticator.peer_connecting(peer, address, limits, closed)
            });
        }
        PeerEvent::Packet(peer, bytes) => {
            with_authenticator(this, |authenticator, _| {
                authenticator.packet(peer, Packet::decode(&bytes).ok())
            });
        }
        PeerEvent::Connected(peer) => {
            with_authenticator(this, |authenticator, _| authenticator.peer_connected(peer));
        }
        PeerEvent::PeerDisconnected(peer) => {
            with_authenticator(this, |authenticator, _| authenticator.peer_disconnected(peer));
        }
        // The game's own packets.
        PeerEvent::UnexpectedPacket(..) | PeerEvent::ConnectionClosed => {}
    }
}

/// Changes the authenticator, then applies the effects.
pub fn with_authenticator(
    mut this: Gd<BackendPeerAuth>,
    change: impl FnOnce(&mut PeerAuthenticator, Option<Reason>) -> Vec<Effect>,
) {
    let (effects, count) = {
        let mut auth = this.bind_mut();
        let closed = auth.closed();
        let before = auth.authenticator.count();
        let effects = change(&mut auth.authenticator, closed);
        let count = auth.authenticator.count();
        (effects, (count != before).then_some(count))
    };
    let registration = this.bind().registration().cloned();
    if let (Some(mut registration), Some(count)) = (registration, count) {
        registration.bind_mut().set_players(count as i64);
    }
    for effect in effects {
        // A handler of the one before may have freed the node.
        if this.is_instance_valid() {
            apply(&this, effect);
        }
    }
}

fn apply(this: &Gd<BackendPeerAuth>, effect: Effect) {
    let id = this.instance_id();
    match effect {
        Effect::StartTimeout(peer, attempt) => {
            let peer_timeout = this.bind().peer_timeout();
            worker_threads::run_on_main_after(peer_timeout, move || {
                if let Some(this) = node(id) {
                    with_authenticator(this, |authenticator, _| authenticator.timed_out(peer, attempt));
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
            disconnect_later(id, peer);
            emit_refusal(this, peer, reason);
        }
        Effect::RefuseConnected(peer, reason) => {
            if let Some(mut api) = api_of(this) {
                api.send_connected(peer, &Packet::Refused(reason.clone()));
            }
            disconnect_later(id, peer);
            emit_refusal(this, peer, reason);
        }
        Effect::RefuseSilently(peer, reason) => {
            if let Some(mut api) = api_of(this) {
                api.disconnect_now(peer);
            }
            emit_refusal(this, peer, reason);
        }
        Effect::Disconnect(peer) => {
            if let Some(mut api) = api_of(this) {
                api.disconnect_now(peer);
            }
        }
        Effect::ScheduleTrim(newest) => worker_threads::run_on_main_after(SILENT_GRACE, move || {
            if let Some(this) = node(id) {
                trim(this, newest);
            }
        }),
        Effect::PlayerJoined(peer, player) => {
            tracing::debug!(peer, player = %player.player_id, "player joined");
            metrics::PEERS_VERIFIED.increment();
            if let Some(mut registration) = this.bind().registration().cloned() {
                registration.bind_mut().add_participant(peer, &player.player_id, &player.display_name);
            }
            this.signals().peer_verified().emit(i64::from(peer), &BackendPlayer::object(Ok(player.into())));
        }
        Effect::PlayerLeft(peer, player) => {
            if let Some(mut registration) = this.bind().registration().cloned() {
                registration.bind_mut().remove_participant(peer);
            }
            this.signals().peer_left().emit(i64::from(peer), &BackendPlayer::object(Ok(player.into())));
        }
    }
}

/// Closes excess unverified connections, and logs that at most once a minute.
fn trim(mut this: Gd<BackendPeerAuth>, newest: Attempt) {
    let limits = this.bind().limits();
    let mut closed = 0;
    with_authenticator(this.clone(), |authenticator, _| {
        let effects = authenticator.trim(newest, limits);
        closed = effects.len();
        effects
    });
    if closed > 0 && this.is_instance_valid() && this.bind_mut().may_warn_of_pending() {
        tracing::warn!(
            "excess connections without a ticket were closed; further ones are not logged for a minute. See \
             BackendPeerAuth.max_pending_per_address and max_pending"
        );
    }
}

fn emit_refusal(this: &Gd<BackendPeerAuth>, peer: PeerId, reason: Reason) {
    metrics::PEERS_REFUSED.increment([metrics::label(&reason.code)]);
    let error = Failure::new(reason.code, reason.message).into_object();
    this.signals().peer_refused().emit(i64::from(peer), &error);
}

/// Disconnects players whose tokens were revoked, if the last heartbeat reported any.
pub fn revoke(mut this: Gd<BackendPeerAuth>) {
    let Some(listed) = this.bind().listed() else { return };
    let revocations = listed.revocations();
    let version = revocations.version();
    if this.bind().revocation_version == version {
        return;
    }
    this.bind_mut().revocation_version = version;
    with_authenticator(this, |authenticator, _| authenticator.revoke(|player| ended(revocations, player)));
}

/// The reason if the token of a player was revoked.
fn ended(revocations: &Revocations, player: &Player) -> Option<Reason> {
    let reason = revocations.reason(&player.player_id, player.issued_at)?;
    Some(match reason {
        RevocationReason::Banned => Reason::new("banned", "The account is banned."),
        RevocationReason::SessionsEnded | RevocationReason::Unknown => {
            Reason::new(refusal::SESSION_ENDED, "The session was ended. Log in again.")
        }
    })
}

fn validate(this: &Gd<BackendPeerAuth>, peer: PeerId, attempt: Attempt, token: String) {
    let id = this.instance_id();
    let validation_setup = this.clone().bind_mut().validation_setup();
    let conclude = move |outcome: Result<Player, ClientError>| {
        let Some(this) = node(id) else { return };
        let (player_limit, accept_access_tokens) = {
            let auth = this.bind();
            (auth.player_limit(), auth.accept_access_tokens)
        };
        let outcome = outcome.and_then(|player| match player.kind {
            TokenKind::Access if !accept_access_tokens => {
                Err(Problem::new(Code::TokenInvalid, "this server requires a join ticket").into())
            }
            _ => Ok(player),
        });
        let listed = this.bind().listed();
        let ticket_id = outcome.as_ref().ok().and_then(|player| player.ticket_id.clone());
        let outcome = outcome.map_err(|error| Reason::new(error.code(), error.message.to_string()));
        // It may have been revoked during validation.
        let outcome =
            outcome.and_then(|player| match listed.and_then(|listed| ended(listed.revocations(), &player)) {
                Some(reason) => Err(reason),
                None => Ok(player),
            });
        let registration = this.bind().listed();
        with_authenticator(this, |authenticator, closed| {
            authenticator.validated(peer, attempt, outcome, player_limit, closed)
        });
        // After the player was counted: the seat must not be free for a moment.
        if let (Some(registration), Some(ticket_id)) = (registration, ticket_id) {
            registration.ticket_used(&ticket_id);
        }
    };
    worker_threads::spawn(async move {
        let outcome = match validation_setup {
            Ok((validator, listed)) => {
                if let Some(listed) = &listed {
                    validator.follow(listed);
                }
                let server_id = listed.and_then(|registration| registration.server_id());
                validator.validate(&token, server_id.as_deref()).await
            }
            Err(error) => Err(error),
        };
        main_thread_queue::enqueue(move || conclude(outcome));
    });
}

/// Closes the connection to `peer` once what was sent had time to arrive, unless it has disconnected by then.
fn disconnect_later(id: InstanceId, peer: PeerId) {
    worker_threads::run_on_main_after(REFUSAL_DELAY, move || {
        if let Some(mut api) = node(id).and_then(|this| api_of(&this)) {
            api.disconnect(peer);
        }
    });
}
