//! The task that sends heartbeats and follows what their replies say.

use std::sync::Arc;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::registration::{ServerLease, ServerStatus};

use super::{COALESCE_INTERVAL, Event, Inner, MIN_HEARTBEAT_INTERVAL, Notice, STALL_POLL_INTERVAL, lock};
use crate::api::retry;

/// Beats until it is aborted.
pub(super) async fn run_heartbeats(server: Arc<Inner>, lease: ServerLease) {
    let mut server_id = lease.server_id;
    let mut nominal = Duration::from_secs(lease.heartbeat_seconds.clamp(1, 600).into());
    let mut failures: u32 = 0;
    let mut told = ServerStatus::Ready;
    let mut drain_told = false;
    loop {
        // One that failed is never waited for longer than the next one would be.
        let pause = if failures == 0 {
            retry::jittered(nominal)
        } else {
            retry::backoff_within(failures + 2, nominal)
        };
        wait(&server, pause.max(MIN_HEARTBEAT_INTERVAL), told).await;
        let heartbeat = server.heartbeat(&server_id);
        told = heartbeat.status;
        match server.backend.heartbeat(&server.key, &server_id, &heartbeat).await {
            Ok(reply) => {
                server.answered(&mut failures);
                *lock(&server.confirmed) = Some((server_id.clone(), heartbeat.sequence));
                nominal = Duration::from_secs(reply.heartbeat_seconds.clamp(1, 600).into());
                if reply.drain && !drain_told {
                    (server.on_event)(Event::DrainRequested);
                }
                drain_told = reply.drain;
                server.entry.confirm(&heartbeat);
                server.confirm_tickets(&heartbeat.used_tickets);
                server.set_invite_code(reply.invite_code);
                server.assign(reply.room);
                server.set_active_kids(reply.key_ids);
                server.note_revocations(reply.revocations, reply.revocations_as_of);
                if reply.rolled_back {
                    server.entry.rolled_back();
                    server.notice(Notice::RolledBack);
                }
                server.notice_players(reply.wanted, Notice::Wanted);
                server.notice_players(reply.conflicts, Notice::Conflicts);
                if server.entry.is_outdated() {
                    match server.enlist().await {
                        Ok(lease) => {
                            server_id = lease.server_id;
                            // The new entry says "ready"; the next run_heartbeats says what is.
                            told = ServerStatus::Ready;
                        }
                        Err(error) => {
                            tracing::error!(
                                code = error.code(),
                                "the server stays listed as it was: {error}"
                            );
                            (server.on_event)(Event::HeartbeatFailed(error));
                        }
                    }
                }
            }
            Err(error) if error.is(Code::ServerUnknown) => {
                (server.on_event)(Event::Lost(error));
                match server.enlist().await {
                    Ok(lease) => {
                        let before = std::mem::replace(&mut server_id, lease.server_id);
                        server.answered(&mut failures);
                        server.notice(Notice::ListedAgain((before != server_id).then_some(before)));
                        // The new entry says "ready"; the next run_heartbeats says what is.
                        told = ServerStatus::Ready;
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        (server.on_event)(Event::HeartbeatFailed(error));
                    }
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                (server.on_event)(Event::HeartbeatFailed(error));
            }
        }
    }
}

/// Until the next heartbeat is due: after `pause`, or soon after something changed.
async fn wait(server: &Inner, pause: Duration, told: ServerStatus) {
    let until = server.clock.now() + pause;
    let earliest = server.clock.now() + MIN_HEARTBEAT_INTERVAL;
    loop {
        let left = until.saturating_duration_since(server.clock.now());
        if left.is_zero() {
            return;
        }
        let changed = tokio::select! {
            biased;
            () = server.changed.notified() => true,
            () = server.clock.sleep(left.min(STALL_POLL_INTERVAL)) => server.status() != told,
        };
        if changed {
            let left = earliest.saturating_duration_since(server.clock.now());
            // Nothing but the game's own changes come in bunches; everything else is urgent.
            let least = if server.entry.take_change() { COALESCE_INTERVAL } else { Duration::ZERO };
            return server.clock.sleep(left.max(least)).await;
        }
    }
}
