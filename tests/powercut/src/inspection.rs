//! What the product finds after a cut.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use backend_client::journal::{JournalFolder, JournalSource as _, Record};
use backend_client::platform::clock::SystemClock;
use backend_client::player_store::RawJson;
use backend_client::world_store::{Event, Setup, WorldStore};

use crate::fake_backend::{FakeBackend, TIMEOUT};
use crate::fake_worlds::{FakeWorlds, WorldVersion};
use crate::model::{Complaints, Model};
use crate::protocol::{Name, WORLD, chunk_name, number_of};

/// Epoch of whoever looks: no writer has it.
const OWN_EPOCH: i64 = i64::MAX;

/// What an opening gave: documents, and what it warned of.
struct Opened {
    found: HashMap<Name, Record>,
    warnings: Vec<String>,
}

/// Opens the journals twice, as the product does at its start: the second time, nothing may have changed.
pub async fn journals(folder: &Path, model: &mut Model) -> Result<Complaints> {
    let first = read(folder).await;
    let second = read(folder).await;
    judge(first, second, model, |first, second| {
        let changed = first.found != second.found;
        changed.then(|| {
            format!("{} documents at the first opening, other ones at the second", first.found.len())
        })
    })
}

/// What the product finds in the folder; adopting other journals may find a save twice.
async fn read(folder: &Path) -> Result<Opened, String> {
    let (journal, recovered) =
        JournalFolder::new(folder).open(None).await.map_err(|error| format!("the journals: {error}"))?;
    journal.close().await;
    let mut found: HashMap<Name, Record> = HashMap::new();
    for record in recovered.saves {
        let name = Name { player: record.player_id.clone(), key: record.key.clone(), epoch: record.epoch };
        if found.get(&name).is_none_or(|known| known.sequence < record.sequence) {
            found.insert(name, record);
        }
    }
    Ok(Opened { found, warnings: recovered.warnings })
}

/// Opens the world twice, with a backend that takes everything: the first time it gets what was left, the second time
/// nothing.
pub async fn world(folder: &Path, version: &Path, model: &mut Model) -> Result<Complaints> {
    let first = open(folder, version).await?;
    let second = open(folder, version).await?;
    judge(first, second, model, |_, second| {
        let again = second.found.len();
        (again > 0).then(|| format!("{again} chunks are committed once more by the second opening"))
    })
}

/// Holds both openings against what is known. One that failed shows nothing of what is there.
fn judge(
    first: Result<Opened, String>,
    second: Result<Opened, String>,
    model: &mut Model,
    difference: impl FnOnce(&Opened, &Opened) -> Option<String>,
) -> Result<Complaints> {
    let (first, second) = match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (first, second) => {
            let unopened = [first.err(), second.err()].into_iter().flatten().collect();
            return Ok(Complaints { unopened, ..Complaints::default() });
        }
    };
    let mut complaints = model.judge(&first.found)?;
    complaints.damaged.extend(difference(&first, &second));
    complaints.damaged.extend(first.warnings.into_iter().chain(second.warnings));
    Ok(complaints)
}

/// What the product commits when it opens the world of the folder.
async fn open(folder: &Path, version: &Path) -> Result<Result<Opened, String>> {
    let found: Arc<Mutex<HashMap<Name, Record>>> = Arc::default();
    let committed = Arc::clone(&found);
    let backend = FakeWorlds {
        epoch: OWN_EPOCH,
        takes: true,
        version: WorldVersion(version.to_owned()),
        on_commit: Box::new(move |chunk, content| {
            let name = chunk_name(chunk);
            let Name { player, key, epoch } = name.clone();
            let (sequence, value) = (number_of(content).cast_signed(), RawJson::from(content));
            let record = Record { player_id: player, key, epoch, sequence, value, loaded_version: None };
            committed.lock().unwrap_or_else(PoisonError::into_inner).insert(name, record);
        }),
        objects: Mutex::default(),
    };
    let (_, registration) = FakeBackend::new(OWN_EPOCH, true, "inspector".to_owned()).register().await?;
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let news = Arc::clone(&told);
    let setup = Setup {
        backend: Arc::new(backend),
        clock: Arc::new(SystemClock),
        registration,
        folder: folder.to_owned(),
        former_folders: Vec::new(),
        delay: Duration::ZERO,
        on_event: Arc::new(move |event| {
            if !matches!(event, Event::Saved { .. }) {
                news.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{event:?}"));
            }
        }),
    };
    match WorldStore::open(setup, WORLD, TIMEOUT).await {
        Ok(store) => {
            store.close(TIMEOUT).await;
        }
        Err(error) => return Ok(Err(format!("the world: {error}"))),
    }
    let warnings = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ok(Opened { found, warnings }))
}
