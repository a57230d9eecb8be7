//! `BackendPlayer`, `BackendValidationResult` and `BackendPlayerDocuments`.

use std::collections::HashMap;
use std::sync::Arc;

use backend_client::player_store::Snapshot;
use backend_client::protocol::player_store::PlayerDocuments;
use backend_client::protocol::validation::TokenKind;
use backend_client::validation::Player;
use godot::prelude::*;

use crate::class_enum::class_enum;
use crate::results::result_class::result_class;
use crate::variant_json;
use crate::variant_json::gstring;

result_class! {
    /// A player with a valid token.
    BackendPlayer(Arc<Player>) {
        /// Id of the account.
        player_id (get_player_id): GString = |player| gstring(&player.player_id);
        /// Name that other players see.
        display_name (get_display_name): GString = |player| gstring(&player.display_name);
        /// Kind of the validated token, one of [enum TokenKind].
        token_kind (get_token_kind): i64 = |player| match player.kind {
            TokenKind::Access => Self::KIND_ACCESS_TOKEN,
            TokenKind::Join => Self::KIND_JOIN_TICKET,
        };
    }
}

class_enum! {
    BackendPlayer::TOKEN_KIND: "TokenKind" {
        /// An access token, which is valid on every server of the game.
        KIND_ACCESS_TOKEN = 0;
        /// A join ticket, which is valid once and for one server.
        KIND_JOIN_TICKET = 1;
    }
}

result_class! {
    /// The result of [method BackendTokenValidator.validate].
    BackendValidationResult(Arc<Player>) {
        /// The owner of the token, or [code]null[/code] if the token is invalid.
        player (get_player): Option<Gd<BackendPlayer>> = |player| Some(BackendPlayer::object(Ok(Arc::clone(player))));
    }
}

/// Documents as both the store and a player's own session give them.
pub struct Documents {
    pub player_id: String,
    pub documents: HashMap<String, Snapshot>,
}

impl From<PlayerDocuments> for Documents {
    fn from(own: PlayerDocuments) -> Self {
        let documents = own.documents.into_iter().map(|document| {
            (document.key, Snapshot { content: document.value.into(), version: document.version })
        });
        Self { player_id: own.player_id, documents: documents.collect() }
    }
}

result_class! {
    /// A player's documents: one JSON object per key, for example [code]"progress"[/code].
    BackendPlayerDocuments(Documents) {
        /// Id of the account.
        player_id (get_player_id): GString = |documents| gstring(&documents.player_id);
    }
    methods {
        /// Returns a copy of the document under [param key], or an empty Dictionary if there is none. Numbers keep their type:
        /// whole numbers that were saved as [int] are [int], [code]3.0[/code] is a [float]. A [Vector3], a [Color] or a
        /// [PackedByteArray] keeps its type as well.
        #[func]
        fn get_document(&self, key: GString) -> VarDictionary {
            self.snapshot(&key).map(|snapshot| variant_json::to_dictionary(&snapshot.content)).unwrap_or_default()
        }

        /// Returns [code]true[/code] if there is a document under [param key].
        #[func]
        fn has_document(&self, key: GString) -> bool {
            self.snapshot(&key).is_some()
        }

        /// Returns the keys of all documents, sorted.
        #[func]
        fn keys(&self) -> PackedStringArray {
            let Ok(documents) = &self.outcome else { return PackedStringArray::new() };
            let mut keys: Vec<&String> = documents.documents.keys().collect();
            keys.sort();
            keys.into_iter().map(gstring).collect()
        }

        /// Returns how many times the document under [param key] was saved, or 0 if it does not exist.
        #[func]
        fn get_version(&self, key: GString) -> i64 {
            self.snapshot(&key).map_or(0, |snapshot| snapshot.version)
        }

        fn snapshot(&self, key: &GString) -> Option<&Snapshot> {
            self.outcome.as_ref().ok()?.documents.get(&key.to_string())
        }
    }
}
