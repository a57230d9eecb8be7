//! `BackendSaveConflict` and the result that holds several.

use std::sync::Arc;

use backend_client::protocol::player_store::Conflict;
use godot::prelude::*;

use crate::results::result_class::result_class;
use crate::variant_json;
use crate::variant_json::gstring;

/// A save that arrived after another server had taken the player over.
///
/// The backend neither applies nor drops a late save. The server that holds the player resolves it by
/// [member BackendPlayerStore.merge_hook], by [member BackendPlayerStore.conflict_resolution], or by
/// [method BackendPlayerStore.resolve_conflict].
#[derive(GodotClass)]
#[class(no_init)]
pub struct BackendSaveConflict {
    conflict: Arc<Conflict>,
    /// Id of the conflict.
    #[var(get = get_conflict_id, no_set)]
    conflict_id: PhantomVar<GString>,
    /// Id of the account that owns the document.
    #[var(get = get_player_id, no_set)]
    player_id: PhantomVar<GString>,
    /// Key of the document.
    #[var(get = get_key, no_set)]
    key: PhantomVar<GString>,
    /// Id of the server whose save was late.
    #[var(get = get_server_id, no_set)]
    server_id: PhantomVar<GString>,
    /// Time at which the backend received the save, in UTC (RFC 3339), for example [code]2026-01-31T12:00:00Z[/code].
    #[var(get = get_received_at, no_set)]
    received_at: PhantomVar<GString>,
}

#[godot_api]
impl BackendSaveConflict {
    /// Returns a copy of the late document.
    #[func]
    fn get_value(&self) -> VarDictionary {
        variant_json::to_dictionary(&self.conflict.value)
    }

    #[func]
    fn get_conflict_id(&self) -> GString {
        gstring(&self.conflict.conflict_id)
    }

    #[func]
    fn get_player_id(&self) -> GString {
        gstring(&self.conflict.player_id)
    }

    #[func]
    fn get_key(&self) -> GString {
        gstring(&self.conflict.key)
    }

    #[func]
    fn get_server_id(&self) -> GString {
        gstring(&self.conflict.server_id)
    }

    #[func]
    fn get_received_at(&self) -> GString {
        gstring(&self.conflict.received_at)
    }

    pub fn object(conflict: Arc<Conflict>) -> Gd<Self> {
        Gd::from_object(Self {
            conflict,
            conflict_id: PhantomVar::default(),
            player_id: PhantomVar::default(),
            key: PhantomVar::default(),
            server_id: PhantomVar::default(),
            received_at: PhantomVar::default(),
        })
    }

    pub fn conflict(&self) -> Arc<Conflict> {
        Arc::clone(&self.conflict)
    }
}

#[godot_api]
impl IRefCounted for BackendSaveConflict {
    fn to_string(&self) -> GString {
        let Conflict { player_id, key, server_id, received_at, .. } = &*self.conflict;
        gstring(format!("{key} of player {player_id}, saved too late by {server_id} at {received_at}"))
    }
}

result_class! {
    /// The result of [method BackendPlayerStore.list_conflicts]: a player's conflicts, oldest first, at most 100.
    BackendConflictList(Vec<Arc<Conflict>>) {
    }
    methods {
        /// Returns the number of conflicts.
        #[func]
        fn size(&self) -> i64 {
            self.outcome.as_ref().map_or(0, |conflicts| conflicts.len() as i64)
        }

        /// Returns the conflict at [param index], or [code]null[/code] if the index is out of range.
        #[func]
        fn get_conflict(&self, index: i64) -> Option<Gd<BackendSaveConflict>> {
            let conflict = self.outcome.as_ref().ok()?.get(usize::try_from(index).ok()?)?;
            Some(BackendSaveConflict::object(Arc::clone(conflict)))
        }
    }
    elements: get_conflict;
}
