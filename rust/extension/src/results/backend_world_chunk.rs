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
    /// A chunk of a world, as returned by [method BackendWorldStore.load_chunk].
    BackendWorldChunk(NamedChunk) {
        /// Name of the chunk.
        chunk_name (get_chunk_name): GString = |chunk| gstring(&chunk.name);
        /// Content of the chunk. Each read returns a new copy.
        data (get_data): PackedByteArray = |chunk| PackedByteArray::from(chunk.content.data.as_slice());
        /// World version that contains this content, or 0 if the backend has not committed it yet.
        version (get_version): i64 = |chunk| chunk.content.version;
    }
}
