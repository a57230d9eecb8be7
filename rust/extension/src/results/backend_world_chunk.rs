//! `BackendWorldChunk`.

use backend_client::world_store::ChunkContent;
use godot::prelude::*;

use crate::results::result_class::result_class;
use crate::variant_json::gstring;

/// A chunk that was read.
pub struct NamedChunk {
    pub name: String,
    pub content: ChunkContent,
}

result_class! {
    /// A chunk of a world, read by [method BackendWorldStore.load_chunk].
    BackendWorldChunk(NamedChunk) {
        /// Name of the chunk.
        chunk_name (get_chunk_name): GString = |chunk| gstring(&chunk.name);
        /// Its bytes, copied each time this is read.
        data (get_data): PackedByteArray = |chunk| PackedByteArray::from(chunk.content.data.as_slice());
        /// Version of the world that wrote it, 0 while the backend does not have it.
        version (get_version): i64 = |chunk| chunk.content.version;
    }
}
