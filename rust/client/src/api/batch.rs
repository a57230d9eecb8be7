//! Documents on their way to the backend: as the protocol's [`SaveDocuments`], each of them still the text that it is in the
//! journal.

use std::sync::Arc;

use backend_protocol::player_store::{SaveDocuments, SaveItem, document_size, save_batch, save_item};
use backend_protocol::{Check, FieldError};
use serde::Serialize;

use crate::document::RawJson;

/// A batch to save. Each item stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// The saving server.
    pub server_id: String,
    /// 1 to 100 documents.
    pub items: Vec<BatchItem>,
}

/// One document to save.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchItem {
    /// Whose document.
    pub player_id: Arc<str>,
    /// Name of the document: 1 to 64 of `[A-Za-z0-9_.-]`.
    pub key: Arc<str>,
    /// Epoch under which the server holds the player.
    pub epoch: i64,
    /// Counts the server's saves of this player in this epoch, from 1.
    pub sequence: i64,
    /// The whole document, at most 256 KiB of JSON.
    pub value: RawJson,
    /// Version that the document was loaded with, if this server has not changed it since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded_version: Option<i64>,
}

impl Batch {
    /// The request's body.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and JSON")
    }

    /// The same with documents that can be looked into.
    pub fn parsed(&self) -> SaveDocuments {
        let parsed = |item: &BatchItem| SaveItem {
            player_id: item.player_id.to_string(),
            key: item.key.to_string(),
            epoch: item.epoch,
            sequence: item.sequence,
            value: item.value.content(),
            loaded_version: item.loaded_version,
        };
        SaveDocuments { server_id: self.server_id.clone(), items: self.items.iter().map(parsed).collect() }
    }
}

/// As [`SaveDocuments`] is checked.
impl Check for Batch {
    fn check(&self) -> Result<(), FieldError> {
        save_batch(&self.server_id, self.items.len())?;
        for (index, item) in self.items.iter().enumerate() {
            item.check().map_err(|error| error.within(&format!("items[{index}]")))?;
        }
        Ok(())
    }
}

impl Check for BatchItem {
    fn check(&self) -> Result<(), FieldError> {
        save_item(&self.player_id, &self.key, self.epoch, self.sequence)?;
        document_size("value", self.value.as_str().len()).map(drop)
    }
}

#[cfg(test)]
mod tests;
