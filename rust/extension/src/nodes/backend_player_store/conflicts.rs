//! Resolution of conflicts.

use std::sync::Arc;

use backend_client::error::ClientError;
use backend_client::player_store::{Content, PlayerStore, Resolution};
use backend_client::protocol::player_store::Conflict;
use godot::builtin::AnyDictionary;
use godot::prelude::*;

use super::BackendPlayerStore;
use crate::results::backend_error::Failure;
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::results::backend_save_conflict::BackendSaveConflict;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;
use crate::variant_json;

/// The values of [`BackendPlayerStore::conflict_resolution`], for the Inspector.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum ConflictResolution {
    KeepHeld = 0,
    KeepLate = 1,
    MergePatch = 2,
    #[default]
    Manual = 3,
}

impl ConflictResolution {
    /// `None` when the game decides later.
    const fn automatic(self) -> Option<Resolution> {
        match self {
            Self::KeepHeld => Some(Resolution::Ours),
            Self::KeepLate => Some(Resolution::Theirs),
            Self::MergePatch => Some(Resolution::MergePatch),
            Self::Manual => None,
        }
    }
}

/// The resolution that a script passed as a constant.
pub(super) fn resolution(constant: i64) -> Result<Resolution, ClientError> {
    ConflictResolution::try_from_godot(constant)
        .ok()
        .and_then(ConflictResolution::automatic)
        .ok_or_else(|| ClientError::field("resolution", "must be KEEP_HELD, KEEP_LATE or MERGE_PATCH"))
}

pub(super) fn merged_by_the_game(value: &AnyDictionary) -> Result<Resolution, ClientError> {
    variant_json::from_dictionary(value).map(Resolution::Value)
}

impl BackendPlayerStore {
    /// Resolves a conflict as the game requested.
    pub(super) fn resolving(
        &self,
        conflict: Option<Gd<BackendSaveConflict>>,
        resolution: Result<Resolution, ClientError>,
    ) -> Gd<BackendRequest> {
        let key =
            conflict.as_ref().map(|conflict| conflict.bind().conflict().key.clone()).unwrap_or_default();
        // Not every game awaits the result.
        let warn = move |error: &ClientError| {
            tracing::warn!(code = error.code(), key, "a conflict is not resolved: {error}");
        };
        let refused = warn.clone();
        let work = resolution.and_then(|resolution| {
            let conflict =
                conflict.ok_or_else(|| ClientError::field("conflict", "must not be null"))?.bind().conflict();
            let store = self.connected()?;
            let change = store.merge(&conflict, resolution)?;
            Ok(async move { store.settle(&conflict, change).await.inspect_err(warn) })
        });
        let work = work.inspect_err(refused);
        self.calls.try_start(work, BackendResult::answer)
    }
}

/// Main thread, without a borrow. Emits the conflict, then resolves it as configured.
pub(super) fn found(node: &Gd<BackendPlayerStore>, conflict: Arc<Conflict>) {
    let merged_before = node.bind().merged.borrow().get(&conflict.conflict_id).copied();
    if merged_before.is_none() {
        node.signals().conflict_found().emit(&BackendSaveConflict::object(Arc::clone(&conflict)));
    }
    if !node.is_instance_valid() {
        return;
    }
    let Some(store) = node.bind().handle() else { return };
    // A conflict that is reported again was merged, but not removed: merging it once more would undo later saves.
    let change = match merged_before {
        Some(change) => change,
        None => match decide(node, &store, &conflict) {
            Some(Ok(resolution)) => match store.merge(&conflict, resolution) {
                Ok(change) => change,
                Err(error) => {
                    return tracing::warn!(
                        code = error.code(),
                        key = conflict.key,
                        "a conflict is not resolved: {error}"
                    );
                }
            },
            Some(Err(error)) => {
                tracing::error!(key = conflict.key, "a conflict is not resolved: {error}");
                // A merge that cannot be saved is a save that is refused.
                store.note_refused(&conflict.player_id, &conflict.key, &error);
                let Conflict { player_id, key, .. } = &*conflict;
                return node.signals().save_failed().emit(
                    player_id,
                    key,
                    &Failure::from(error).into_object(),
                );
            }
            None => return,
        },
    };
    node.bind().merged.borrow_mut().insert(conflict.conflict_id.clone(), change);
    settle(node.instance_id(), store, conflict, change);
}

/// `None` when the game decides later.
fn decide(
    node: &Gd<BackendPlayerStore>,
    store: &PlayerStore,
    conflict: &Conflict,
) -> Option<Result<Resolution, ClientError>> {
    let hook = node.bind().merge_hook.clone();
    if hook.is_valid() {
        return Some(ask(&hook, store, conflict).map(Resolution::Value));
    }
    node.bind().conflict_resolution.automatic().map(Ok)
}

/// Calls the game's merge function.
fn ask(hook: &Callable, store: &PlayerStore, conflict: &Conflict) -> Result<Content, ClientError> {
    let (player_id, key) = (conflict.player_id.as_str(), conflict.key.as_str());
    let held =
        store.document(player_id, key).map(|held| variant_json::to_dictionary(&held)).unwrap_or_default();
    let late = variant_json::to_dictionary(&conflict.value);
    let answer = hook.call(&[player_id.to_variant(), key.to_variant(), held.to_variant(), late.to_variant()]);
    let merged = answer.try_to::<AnyDictionary>().map_err(|_| {
        let rule = format!("must return a Dictionary, returned {:?}", answer.get_type());
        ClientError::field("merge_hook", rule)
    })?;
    variant_json::from_dictionary(&merged).map_err(|error| ClientError {
        message: format!("what merge_hook returned cannot be saved: {error}").into(),
        ..error
    })
}

fn settle(id: InstanceId, store: PlayerStore, conflict: Arc<Conflict>, change: Option<u64>) {
    worker_threads::spawn(async move {
        match store.settle(&conflict, change).await {
            Ok(()) => main_thread_queue::enqueue(move || {
                if let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) {
                    node.bind().merged.borrow_mut().remove(&conflict.conflict_id);
                }
            }),
            // A later heartbeat reports it again.
            Err(error) => tracing::warn!(
                code = error.code(),
                key = conflict.key,
                "a conflict is merged, but not removed yet: {error}"
            ),
        }
    });
}
