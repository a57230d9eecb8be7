//! The registration behind the node: made on first use, its events, and its end with the node.

use std::sync::Arc;

use backend_client::error::ClientError;
use backend_client::registration::{Event, Registration};
use godot::prelude::*;

use super::failure_log::log_registration_failure;
use super::{BackendServerRegistration, listing};
use crate::config;
use crate::metrics;
use crate::results::backend_error::Failure;
use crate::runtime::background_tasks;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::main_thread_queue;
use crate::shutdown::{host_notifier, registry, requests};
use crate::variant_json::gstring;

/// A registration that was used.
pub struct Connected {
    /// Id of the node, stored because it cannot be read while the node is being freed.
    node: InstanceId,
    registration: Registration,
    _each_frame: FrameHook,
}

impl Connected {
    /// Stops the heartbeats, and leaves the server listed.
    pub fn stop(self) -> Registration {
        registry::remove(self.node);
        self.registration.stop();
        self.registration
    }
}

impl BackendServerRegistration {
    /// The id under which the server is listed.
    pub fn listed_as(&self) -> Option<String> {
        self.handle().and_then(|registration| registration.server_id())
    }

    /// The registration, if it was used yet.
    pub fn handle(&self) -> Option<Registration> {
        self.connected.borrow().as_ref().map(|connected| connected.registration.clone())
    }

    /// The registration, created on first use.
    pub fn connected(&self) -> Result<Registration, ClientError> {
        if let Some(registration) = self.handle() {
            return Ok(registration);
        }
        let backend = config::connect(config::resolve(self.config.as_ref())?)?;
        let stall = host_notifier::stall_limit(self.main_loop_stall_seconds)?;
        let id = self.base().instance_id();
        let on_event = Arc::new(move |event| {
            metrics::count_registration_event(&event);
            main_thread_queue::enqueue(move || announce(id, event));
        });
        let registration =
            Registration::new(backend, config::clock(), config::server_key()?, stall, on_event);
        registration.set_draining(self.draining);
        if let Some(allocation_id) = config::allocation_id() {
            registration.set_allocation(allocation_id);
        }
        let turning = registration.clone();
        let each_frame = FrameHook::new(move || turning.main_loop_turned());
        registry::add_registration(id, registration.clone());
        host_notifier::set_stall_limit(stall);
        self.publish_players();
        self.connected.replace(Some(Connected {
            node: id,
            registration: registration.clone(),
            _each_frame: each_frame,
        }));
        Ok(registration)
    }
}

impl Drop for BackendServerRegistration {
    fn drop(&mut self) {
        let Some(connected) = self.connected.take() else { return };
        let registration = connected.stop();
        // Players should not be sent to a freed server. The response is not needed.
        if registration.server_id().is_some() {
            background_tasks::spawn_deregistration(async move {
                if let Err(error) = registration.deregister().await {
                    tracing::warn!(
                        code = error.code(),
                        "a freed server stays listed until its lease expires"
                    );
                }
            });
        }
    }
}

fn announce(id: InstanceId, event: Event) {
    // The node may have been freed.
    let Ok(mut node) = Gd::<BackendServerRegistration>::try_from_instance_id(id) else { return };
    let object = |error: ClientError| Failure::from(error).into_object();
    match event {
        Event::Registered(server_id) => {
            host_notifier::ready(&server_id);
            node.bind().publish();
            node.signals().registered().emit(&server_id);
        }
        Event::RegistrationFailed(error) => {
            log_registration_failure(&error);
            node.signals().registration_failed().emit(&object(error));
        }
        Event::Lost(error) => node.signals().registration_lost().emit(&object(error)),
        Event::HeartbeatFailed(error) => node.signals().heartbeat_failed().emit(&object(error)),
        Event::DrainRequested => {
            node.signals().drain_requested().emit();
            requests::request("drain_requested");
        }
        Event::InviteCodeChanged(code) => {
            let code = code.as_ref().map(gstring).unwrap_or_default();
            node.signals().invite_code_changed().emit(&code);
        }
        Event::RoomAssigned(room) => listing::take_room_over(&mut node, &room),
        Event::Deregistered => node.signals().deregistered().emit(),
    }
}
