//! Log lines of registrations that failed.

use backend_client::error::ClientError;
use godot::prelude::*;

use super::BackendServerRegistration;
use crate::results::backend_error::Failure;
use crate::results::backend_request::BackendRequest;

pub fn log_registration_failure(error: &ClientError) {
    let then = if error.retryable { "retrying in the background" } else { "not retried" };
    tracing::warn!("registration failed ({}): {}; {then}", error.code(), error.message);
}

/// A server that is not listed has no players: logs an error if the game neither uses the result nor connects the signal.
pub fn log_if_unused(id: InstanceId, request: Option<InstanceId>, failure: &Failure) {
    let Ok(node) = Gd::<BackendServerRegistration>::try_from_instance_id(id) else { return };
    let request = request.and_then(|id| Gd::<BackendRequest>::try_from_instance_id(id).ok());
    // One reference is here, and one with what completes the request.
    let is_kept = request
        .is_some_and(|request| request.has_connections("completed") || request.get_reference_count() > 2);
    if failure.code != "cancelled" && !is_kept && !node.has_connections("registration_failed") {
        tracing::error!(
            "register() failed, and its result is not used ({}): {}. Await it, or connect registration_failed",
            failure.code,
            failure.message
        );
    }
}
