//! Reading chunks: from memory, from the local copy if it is what its name says, else from the backend.

use std::sync::{Arc, PoisonError};

use backend_protocol::world_store::RequestDownloads;
use backend_protocol::{Code, Problem};

use super::state::{Committed, Found};
use super::{ChunkContent, IN_FLIGHT_KIB, Inner, on_disk};
use crate::api::retry;
use crate::error::{ClientError, Fault};

/// Most bytes asked for at a time. An interrupted download goes on after the last part that came whole.
const PART: u64 = 4 * 1024 * 1024;
/// Attempts without a byte gained before a download is given up.
const ATTEMPTS: u32 = 4;

pub(super) async fn get(inner: &Inner, name: &str) -> Result<ChunkContent, ClientError> {
    // A chunk that is changed while it is read may lose its object: then the newer one is read.
    for _ in 0..3 {
        let found = inner.lock().find(name);
        match found {
            None => {
                return Err(Problem::new(Code::ChunkNotFound, "the world has no chunk of this name").into());
            }
            Some(Found::InMemory(data)) => return Ok(ChunkContent { data, version: 0 }),
            Some(Found::Local(object)) => {
                let _places = inner.reading_places(object.bytes).await?;
                let (object_cache, hash) = (inner.object_cache.clone(), object.hash);
                if let Some(data) = on_disk(move || object_cache.read(&hash, object.bytes)).await? {
                    return Ok(ChunkContent { data: Arc::new(data), version: 0 });
                }
            }
            Some(Found::Committed(chunk)) => {
                let _places = inner.reading_places(chunk.bytes).await?;
                match inner.read_committed(&chunk).await {
                    Ok(data) => return Ok(ChunkContent { data: Arc::new(data), version: chunk.version }),
                    Err(error) if error.is(Code::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Err(ClientError::new(Fault::Storage, "the chunk's object is neither here nor at the backend"))
}

impl Inner {
    /// Bounds how many chunks, and how many bytes of them, are read at a time.
    async fn reading_places(
        &self,
        bytes: u64,
    ) -> Result<(tokio::sync::SemaphorePermit<'_>, tokio::sync::SemaphorePermit<'_>), ClientError> {
        let closing = |_| ClientError::new(Fault::Cancelled, "the world was closed");
        let kib = (bytes / 1024 + 1).min(IN_FLIGHT_KIB as u64);
        let place = self.reading.acquire().await.map_err(closing)?;
        let budget = self.reading_budget.acquire_many(kib as u32).await.map_err(closing)?;
        Ok((place, budget))
    }

    async fn read_committed(&self, chunk: &Committed) -> Result<Vec<u8>, ClientError> {
        let one_at_a_time = {
            let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for any more are only in the table.
            downloads.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(downloads.entry(chunk.hash.clone()).or_default())
        };
        let _turn = one_at_a_time.lock().await;
        let (object_cache, hash, bytes) = (self.object_cache.clone(), chunk.hash.clone(), chunk.bytes);
        if let Some(data) = on_disk(move || object_cache.read(&hash, bytes)).await? {
            return Ok(data);
        }
        // A part left by an interrupted download may be of another compression of the same bytes: then it is found to be
        // damaged at the end, and fetched from the beginning.
        for _ in 0..2 {
            if let Some(data) = self.download(chunk).await? {
                return Ok(data);
            }
        }
        Err(ClientError::new(Fault::BadReply, "the chunk's object is damaged at the backend"))
    }

    async fn download(&self, chunk: &Committed) -> Result<Option<Vec<u8>>, ClientError> {
        let key = self.setup.registration.key();
        let (mut attempt, mut address) = (0, None);
        loop {
            let (object_cache, hash) = (self.object_cache.clone(), chunk.hash.clone());
            let start = on_disk(move || object_cache.part_length(&hash)).await?;
            let step = async {
                if address.is_none() {
                    let body = RequestDownloads { hashes: vec![chunk.hash.clone()] };
                    let found = self.setup.backend.request_downloads(key, &self.world_id, &body).await?;
                    let Some(found) = found.objects.into_iter().next() else {
                        return Err(
                            Problem::new(Code::NotFound, "the backend does not have the object").into()
                        );
                    };
                    address = Some((found.address, found.stored_bytes));
                }
                let Some((address, total)) = &address else {
                    return Err(ClientError::new(Fault::Internal, "no address"));
                };
                if start >= *total {
                    return Ok(true);
                }
                let range = start..(start + PART).min(*total);
                let part = self.setup.backend.receive_object(
                    key,
                    &self.world_id,
                    &chunk.hash,
                    address.as_ref(),
                    range,
                );
                let part = part.await?;
                let (object_cache, hash) = (self.object_cache.clone(), chunk.hash.clone());
                on_disk(move || {
                    if part.start != start {
                        // The whole object, from a store that knows no ranges.
                        object_cache.discard_part(&hash)?;
                    }
                    object_cache.append_part(&hash, &part.bytes)?;
                    Ok(part.start + part.bytes.len() as u64 >= part.total)
                })
                .await
            };
            match step.await {
                Ok(true) => break,
                Ok(false) => attempt = 0,
                Err(error) if error.retryable && attempt + 1 < ATTEMPTS => {
                    self.setup.clock.sleep(retry::pause(error.retry_after, attempt)).await;
                    attempt += 1;
                    // It may have run out.
                    address = None;
                }
                Err(error) => return Err(error),
            }
        }
        let (object_cache, hash, bytes) = (self.object_cache.clone(), chunk.hash.clone(), chunk.bytes);
        on_disk(move || object_cache.finish_part(&hash, bytes)).await
    }
}
