//! Worlds: named binary chunks, held by one server under a lease.
//!
//! A chunk's content is an object, named by the SHA-256 of its raw bytes and kept zstd-compressed (RFC 8878). A server
//! sends the objects the backend lacks, to the backend or to a signed address of its object store, and then commits the
//! names that point at them. A commit is applied whole, only under the current epoch and with a sequence above the last
//! one: a replay gets the first result, and a server that lost its world cannot overwrite.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::limits::{self, Check, FieldError};

/// Longest id of a world, in bytes of `[A-Za-z0-9_.-]`.
pub const MAX_WORLD_ID: usize = 64;
/// Longest name of a chunk, in bytes of `[A-Za-z0-9_.,/-]`.
pub const MAX_CHUNK_NAME: usize = 128;
/// Largest chunk, in raw bytes.
pub const MAX_CHUNK_BYTES: usize = 16 * 1024 * 1024;
/// Largest object, in stored bytes: what cannot be compressed grows a little (zstd's bound is 1/256 and 64 bytes).
pub const MAX_OBJECT_BYTES: usize = MAX_CHUNK_BYTES + MAX_CHUNK_BYTES / 256 + 64;
/// Most changes in one commit, and most objects in one request for addresses.
pub const MAX_CHANGES: usize = 200;
/// Most chunks on one page.
pub const MAX_CHUNK_PAGE: u32 = 1_000;
/// Largest body of `POST /v1/worlds/{world_id}/commit`, in bytes: a full one.
pub const MAX_COMMIT_BODY_BYTES: usize = 256 * 1024;

/// Takes a world. It is made if there is none of this id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenWorld {
    /// The server that holds the world from now on.
    pub server_id: String,
    /// Counts this server's openings, of whichever world. The same one again, after a lost reply, keeps the epoch; a higher
    /// one gets the next, so that what comes late of an earlier one means nothing any more; a lower one comes late itself.
    pub opening: u64,
}

/// A world, held by the asking server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorldLease {
    /// Grows whenever the lease is taken anew. Commits carry it; the first one's sequence is 1 or more.
    pub epoch: i64,
    /// Counts commits; 0 for a new world.
    pub version: i64,
    /// Seconds the lease lasts without a heartbeat or a commit of its holder.
    pub lease_seconds: u32,
}

/// Which page of a world's chunks, as query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ChunkQuery {
    /// Chunks on a page, 1 to 1,000, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One page of a world's chunks, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkPage {
    /// Version of the world when the page was read.
    pub version: i64,
    /// The chunks.
    pub chunks: Vec<Chunk>,
    /// Present while there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Chunk {
    /// Its name.
    pub name: String,
    /// SHA-256 of its raw bytes, in lower-case hexadecimal.
    pub hash: String,
    /// Raw size.
    pub bytes: u64,
    /// Version of the world that wrote it last.
    pub version: i64,
}

/// Asks which objects the backend lacks and where to send them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestUploads {
    /// 1 to 200 objects.
    pub hashes: Vec<String>,
}

/// Where to send what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uploads {
    /// One entry per object, in the requested order.
    pub objects: Vec<Upload>,
}

/// One object that the backend has, or needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// Which.
    pub hash: String,
    /// Whether the backend has it: there is nothing to send.
    pub present: bool,
    /// Where to send it. Absent for an object to be sent as `PUT /v1/worlds/{world_id}/objects/{hash}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<ObjectAddress>,
    /// With an address: names this upload to the commit ([`ChunkChange::upload`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
}

/// A signed address in the backend's object store. It is a secret until it expires: possession suffices to use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectAddress {
    /// `PUT` or `GET`.
    pub method: String,
    /// `https://…`, or `http://` to a loopback address.
    pub url: String,
    /// Headers to send along.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Seconds it can be used.
    pub expires_in: u32,
}

impl std::fmt::Debug for ObjectAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The signature is in the query.
        let place = self.url.split('?').next().unwrap_or_default();
        write!(out, "{} {place}?…", self.method)
    }
}

/// Asks where objects are to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestDownloads {
    /// 1 to 200 objects.
    pub hashes: Vec<String>,
}

/// Where to read what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Downloads {
    /// One entry per object that the backend has.
    pub objects: Vec<Download>,
}

/// One object to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Download {
    /// Which.
    pub hash: String,
    /// Its size, compressed.
    pub stored_bytes: u64,
    /// Where to read it. Absent: `GET /v1/worlds/{world_id}/objects/{hash}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<ObjectAddress>,
}

/// Changes a world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitWorld {
    /// The server that sends. The epoch decides, not the sender: a restarted server delivers what its predecessor left.
    pub server_id: String,
    /// Epoch of the lease under which the changes were made, at least 1.
    pub epoch: i64,
    /// Number of this commit, growing within the epoch, at least 1. A repetition carries the same number and content.
    pub sequence: i64,
    /// Chunks that are new or have changed. With `removed`: 1 to 200 changes of different names.
    #[serde(default)]
    pub chunks: Vec<ChunkChange>,
    /// Names of chunks that are gone. Removing what is not there changes nothing.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// One changed chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChunkChange {
    /// Its name.
    pub name: String,
    /// Its object, which must be stored by now.
    pub hash: String,
    /// Raw size.
    pub bytes: u64,
    /// Size of the object as it was sent.
    pub stored_bytes: u64,
    /// The upload, if the object went to a signed address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
}

/// A commit that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommittedWorld {
    /// Version of the world after it, and of every chunk in it.
    pub version: i64,
    /// Whether it had been applied before: this is the first result.
    pub replayed: bool,
}

/// Releases a world, so that another server need not wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseWorld {
    /// The server that holds it.
    pub server_id: String,
    /// Epoch of the lease: a release that arrives late ends no later lease.
    pub epoch: i64,
    /// Version of the world that the backend has confirmed. A world of a lower one is not released but refused as
    /// `rolled_back`: the server sends again what is missing. Absent: it is released in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_version: Option<i64>,
    /// Sequence of the last commit of this epoch that the backend has confirmed; 0 or absent: of none. A world whose last commit
    /// has a lower one is refused as `rolled_back`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_sequence: Option<i64>,
}

impl Check for OpenWorld {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("server_id", &self.server_id, 64)?;
        if i64::try_from(self.opening).is_err() {
            return Err(FieldError::new("opening", "must fit into 63 bits"));
        }
        Ok(())
    }
}

impl Check for ReleaseWorld {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("server_id", &self.server_id, 64)
    }
}

impl Check for ChunkQuery {
    fn check(&self) -> Result<(), FieldError> {
        match self.limit {
            Some(limit) if limit == 0 || limit > MAX_CHUNK_PAGE => {
                return Err(FieldError::new("limit", format!("must be 1 to {MAX_CHUNK_PAGE}")));
            }
            _ => {}
        }
        match &self.cursor {
            Some(cursor) => limits::opaque("cursor", cursor, 1, limits::MAX_CURSOR),
            None => Ok(()),
        }
    }
}

impl Check for RequestUploads {
    fn check(&self) -> Result<(), FieldError> {
        hashes(&self.hashes)
    }
}

impl Check for RequestDownloads {
    fn check(&self) -> Result<(), FieldError> {
        hashes(&self.hashes)
    }
}

impl Check for CommitWorld {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("server_id", &self.server_id, 64)?;
        for (field, value) in [("epoch", self.epoch), ("sequence", self.sequence)] {
            if value < 1 {
                return Err(FieldError::new(field, "must be at least 1"));
            }
        }
        counted("chunks", self.chunks.len() + self.removed.len())?;
        let mut names: Vec<&str> = Vec::with_capacity(self.chunks.len() + self.removed.len());
        for (index, chunk) in self.chunks.iter().enumerate() {
            chunk.check().map_err(|error| error.within(&format!("chunks[{index}]")))?;
            names.push(&chunk.name);
        }
        for (index, name) in self.removed.iter().enumerate() {
            chunk_name(&format!("removed[{index}]"), name)?;
            names.push(name);
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(FieldError::new("chunks", format!("must not name {} twice", pair[0]))),
            None => Ok(()),
        }
    }
}

impl Check for ChunkChange {
    fn check(&self) -> Result<(), FieldError> {
        chunk_name("name", &self.name)?;
        object_hash("hash", &self.hash)?;
        let sizes =
            [("bytes", self.bytes, MAX_CHUNK_BYTES), ("stored_bytes", self.stored_bytes, MAX_OBJECT_BYTES)];
        for (field, value, most) in sizes {
            if value > most as u64 {
                return Err(FieldError::new(field, format!("must be at most {most}, is {value}")));
            }
        }
        match &self.upload {
            Some(upload) => limits::identifier("upload", upload, 64),
            None => Ok(()),
        }
    }
}

/// `value` is a world's id: 1 to 64 of `[A-Za-z0-9_.-]`, not `.` or `..`.
pub fn world_id(field: &str, value: &str) -> Result<(), FieldError> {
    limits::identifier(field, value, MAX_WORLD_ID)?;
    // The client keeps a world in a folder of this name.
    if value.bytes().all(|byte| byte == b'.') {
        return Err(FieldError::new(field, "must not consist of dots only"));
    }
    Ok(())
}

/// `value` is a chunk's name: 1 to 128 of `[A-Za-z0-9_.,/-]`, in parts separated by single slashes, none of them `..`.
pub fn chunk_name(field: &str, value: &str) -> Result<(), FieldError> {
    if value.is_empty() || value.len() > MAX_CHUNK_NAME {
        return Err(FieldError::new(
            field,
            format!("must have 1 to {MAX_CHUNK_NAME} bytes, has {}", value.len()),
        ));
    }
    if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.,/-".contains(&byte)) {
        return Err(FieldError::new(field, "may only contain A-Z, a-z, 0-9, '_', '.', ',', '-' and '/'"));
    }
    if value.split('/').any(str::is_empty) {
        return Err(FieldError::new(field, "must not begin or end with '/' or hold two in a row"));
    }
    if value.contains("..") {
        return Err(FieldError::new(field, "must not hold '..'"));
    }
    Ok(())
}

/// `value` is a SHA-256 in lower-case hexadecimal.
pub fn object_hash(field: &str, value: &str) -> Result<(), FieldError> {
    if value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        Ok(())
    } else {
        Err(FieldError::new(field, "must be a SHA-256 of 64 lower-case hexadecimal digits"))
    }
}

fn hashes(hashes: &[String]) -> Result<(), FieldError> {
    counted("hashes", hashes.len())?;
    hashes.iter().enumerate().try_for_each(|(index, hash)| object_hash(&format!("hashes[{index}]"), hash))
}

fn counted(field: &str, count: usize) -> Result<(), FieldError> {
    if (1..=MAX_CHANGES).contains(&count) {
        Ok(())
    } else {
        Err(FieldError::new(field, format!("must have 1 to {MAX_CHANGES} entries, has {count}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_folder() {
        for name in ["a", "r.0.-1", "terrain/0,0", "a/b/c.bin", "A-_.,9"] {
            assert_eq!(chunk_name("name", name), Ok(()), "{name}");
        }
        let long = "x".repeat(129);
        for name in ["", "/a", "a/", "a//b", "..", "a/../b", "a..b", "a b", "a\\b", "ä", "a\0", &long] {
            assert!(chunk_name("name", name).is_err(), "{name}");
        }
        assert!(world_id("world_id", "overworld-1.bak").is_ok());
        for id in ["", ".", "..", "a/b", "a b"] {
            assert!(world_id("world_id", id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_commit_names_each_chunk_once() {
        let chunk = |name: &str| ChunkChange {
            name: name.into(),
            hash: "0".repeat(64),
            bytes: 1,
            stored_bytes: 1,
            upload: None,
        };
        let commit = |chunks: Vec<ChunkChange>, removed: Vec<String>| CommitWorld {
            server_id: "s".into(),
            epoch: 1,
            sequence: 1,
            chunks,
            removed,
        };
        let field = |commit: CommitWorld| commit.check().err().map(|error| error.field);
        assert_eq!(field(commit(vec![chunk("a")], vec!["b".into()])), None);
        assert_eq!(field(commit(vec![], vec![])).as_deref(), Some("chunks"));
        assert_eq!(field(commit(vec![chunk("a"), chunk("a")], vec![])).as_deref(), Some("chunks"));
        assert_eq!(field(commit(vec![chunk("a")], vec!["a".into()])).as_deref(), Some("chunks"));
        assert_eq!(field(commit(vec![chunk("a")], vec!["/".into()])).as_deref(), Some("removed[0]"));
        let mut bad = chunk("a");
        bad.hash = "A".repeat(64);
        assert_eq!(field(commit(vec![bad], vec![])).as_deref(), Some("chunks[0].hash"));
    }
}
