//! Registering, deregistering and draining: the calls of the game.

use std::cell::Cell;
use std::rc::Rc;

use godot::prelude::*;

use super::BackendServerRegistration;
use super::failure_log::{log_if_unused, log_registration_failure};
use crate::results::backend_error::Failure;
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::results::result_class::result_class;
use crate::runtime::main_thread_queue;
use crate::variant_json::gstring;

result_class! {
    /// The result of [method BackendServerRegistration.register].
    BackendRegistrationResult(String) {
        /// Id of the server, which is also the id of its room.
        server_id (get_server_id): GString = |server_id| gstring(server_id);
    }
}

#[godot_api(secondary)]
impl BackendServerRegistration {
    /// Registers the server and starts the heartbeats. A further call updates the entry, which keeps its id. Returns a [BackendRequest]
    /// that completes with a [BackendRegistrationResult] after the first attempt. While the backend is unreachable, registration is
    /// retried in the background until it succeeds ([signal registered]) or [method deregister] is called. Open the server's port
    /// before registering.
    #[func]
    pub(super) fn register(&self) -> Gd<BackendRequest> {
        let work = self.registering();
        if let Err(error) = &work {
            log_registration_failure(error);
            let (id, failure) = (self.base().instance_id(), Failure::from(error.clone()));
            main_thread_queue::enqueue(move || {
                if let Ok(node) = Gd::<Self>::try_from_instance_id(id) {
                    node.signals().registration_failed().emit(&failure.into_object());
                }
            });
        } else {
            self.check_admission();
        }
        let (id, asked) = (self.base().instance_id(), Rc::new(Cell::new(None)));
        let answered = Rc::clone(&asked);
        let request = self.calls.try_start(work, move |outcome| {
            if let Err(failure) = &outcome {
                log_if_unused(id, answered.get(), failure);
            }
            BackendRegistrationResult::answer(outcome)
        });
        asked.set(Some(request.instance_id()));
        request
    }

    /// Removes the server from the room list. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn deregister(&self) -> Gd<BackendRequest> {
        self.stop_answering();
        let registration = self.handle();
        let work = async move {
            match registration {
                Some(registration) => registration.deregister().await,
                None => Ok(()),
            }
        };
        self.calls.start(work, BackendResult::answer)
    }

    /// Marks the server as draining. A draining server is not listed, and no tickets are issued for it.
    #[func]
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
        if let Some(registration) = self.handle() {
            registration.set_draining(draining);
        }
        self.publish();
    }

    /// Returns [code]true[/code] if the server is marked as draining.
    #[func]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns [code]true[/code] if the server is registered. The registration may have been lost since the last heartbeat.
    #[func]
    pub fn is_registered(&self) -> bool {
        self.listed_as().is_some()
    }
}
