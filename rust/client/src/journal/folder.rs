//! Journals in a folder: `journal-0.db`, `journal-1.db`, …, one per process that uses the folder.
//!
//! Each is opened exclusively, so that a second process takes the next one. A process can leave several (one that failed, and
//! the one after it). Whoever takes over what the dead left takes all of it, under a lock of the folder: a dead server's
//! leases may be let go only by somebody who has everything that was saved under them.
//!
//! A damaged file of this backend is kept aside under another name, once the saves in it that can still be read are in the
//! journal of whoever met it. One that has saves for another backend, or that cannot be opened, stays as it is, damaged or not.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::damaged::{self, keep_aside};
use super::file::{JournalFile, Left, from_io};
use super::{Changes, Journal, JournalError, JournalSource, Recovered, passing_volume};
use crate::platform::private_files::{make_folder, open_private};

/// Most processes that share a folder.
const MAX_JOURNALS: usize = 64;

/// Held while somebody takes over what the dead left.
const LOCK: &str = "journals.lock";
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for it at the start. Whoever gets no lock begins a new journal and takes nothing over, for now.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A folder of journals. It is made at the first opening.
#[derive(Debug, Clone)]
pub struct JournalFolder {
    folder: PathBuf,
    /// Where an earlier version kept the journals for the same backend.
    former: Vec<PathBuf>,
    /// Warnings of an opening that failed after it had set aside what is damaged: the next one finds nothing to warn of.
    untold: Arc<Mutex<Vec<String>>>,
}

impl JournalFolder {
    /// Journals in `folder`, which has to be on a volume that outlives the process.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), former: Vec::new(), untold: Arc::default() }
    }

    /// What processes left in these folders is taken over too, if they are there.
    #[must_use]
    pub fn with_former(mut self, former: impl IntoIterator<Item = PathBuf>) -> Self {
        self.former = former.into_iter().filter(|former| *former != self.folder).collect();
        self
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: usize) -> PathBuf {
        path_in(&self.folder, number)
    }

    /// The first journal that nobody holds, with what it has. With `only_new`, one that nobody has written to. Damaged ones
    /// are passed: whoever adopts what is left keeps them aside.
    async fn first_free(
        &self,
        only_new: bool,
        backend: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<(usize, JournalFile, Left), JournalError> {
        for number in 0..MAX_JOURNALS {
            let path = self.path(number);
            let new = !path.exists();
            if only_new && !new {
                continue;
            }
            match open_for(&path, backend).await {
                Ok(Opened::Ours(mut journal, left)) => match journal.claim(backend).await {
                    // It can be read, and written to once there is room.
                    Err(JournalError::Full(_)) if !new && !left.is_empty() => {
                        return Ok((number, *journal, left));
                    }
                    Err(error) if !new => {
                        journal.close().await;
                        warnings.push(left_alone(&path, &error));
                    }
                    claimed => return claimed.map(|()| (number, *journal, left)),
                },
                Ok(Opened::Foreign(warning)) => warnings.push(warning),
                Err(JournalError::InUse(_) | JournalError::Damaged(_)) => {}
                // What is wrong with one file need not be wrong with the next.
                Err(error) if !new => warnings.push(left_alone(&path, &error)),
                Err(error) => return Err(error),
            }
        }
        Err(JournalError::InUse(format!("{} files in {}", MAX_JOURNALS, self.folder.display())))
    }

    /// Moves what dead processes left in the other journals into `own`, and tells their ids once it has all. Call it under the
    /// folder's lock. Their files stay, empty, for processes to come: one
    /// that is deleted could be opened by somebody in the very moment.
    async fn adopt(
        &self,
        own: &mut JournalFile,
        backend: Option<&str>,
        recovered: &mut Recovered,
    ) -> Result<(), JournalError> {
        // Somebody with several may die in the midst of it, when one of them has been passed already.
        while self.adopt_once(own, backend, recovered).await? {}
        for former in &self.former {
            if former.is_dir()
                && let Ok(Some(_lock)) = lock(former, Duration::ZERO).await
            {
                adopt_from(former, own, backend, recovered).await?;
            }
        }
        recovered.server_ids = own.server_ids().await?;
        Ok(())
    }

    /// Whether there was anything.
    async fn adopt_once(
        &self,
        own: &mut JournalFile,
        backend: Option<&str>,
        recovered: &mut Recovered,
    ) -> Result<bool, JournalError> {
        adopt_from(&self.folder, own, backend, recovered).await
    }
}

/// A file that could be opened.
enum Opened {
    /// One for this backend, or for nobody yet.
    Ours(Box<JournalFile>, Left),
    /// One with saves for another backend, and what is to be told about it. It is closed again.
    Foreign(String),
}

fn path_in(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("journal-{number}.db"))
}

fn left_alone(path: &Path, error: &JournalError) -> String {
    format!("{} is left alone: {error}", path.display())
}

/// The lock of a folder; `None` when somebody else has it and does not let it go in time, as a process that was stopped. It
/// ends with the file that is returned.
async fn lock(folder: &Path, within: Duration) -> Result<Option<File>, JournalError> {
    let path = folder.join(LOCK);
    // One that is there can be locked on a full disk, and on one that is read only.
    let file = open_private(&path, OpenOptions::new().read(true))
        .or_else(|_| open_private(&path, OpenOptions::new().write(true).create(true).truncate(false)))
        .map_err(|error| from_io(&path, &error))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if waited < within => {
                tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
                waited += LOCK_RETRY_INTERVAL;
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(from_io(&path, &error)),
        }
    }
}

async fn open_for(path: &Path, backend: Option<&str>) -> Result<Opened, JournalError> {
    let mut journal = JournalFile::open(path).await?;
    let left = match journal.left().await {
        Ok(left) => left,
        Err(error) => {
            journal.close().await;
            return Err(error);
        }
    };
    if left.is_empty() || journal.backend().is_none() || journal.backend() == backend {
        return Ok(Opened::Ours(Box::new(journal), left));
    }
    // What it says of the backend is proven by nothing, and none of the rows is for that one.
    let is_doubtful = !journal.has_proof() && left.saves.is_empty() && !left.damaged.is_empty();
    let warning = format!(
        "{} has {} saves for another backend ({}): they are kept for a server of that one",
        path.display(),
        left.saves.len(),
        journal.backend().unwrap_or_default()
    );
    journal.close().await;
    if is_doubtful {
        let why = "none of its saves is for the backend that it names";
        return Err(JournalError::Damaged(format!("{}: {why}", path.display())));
    }
    Ok(Opened::Foreign(warning))
}

/// What is wrong with what is left in a file, for a person.
fn warn_of(journal: &JournalFile, left: &Left, warnings: &mut Vec<String>) {
    let name = journal.path.display();
    if journal.missing > 0 {
        let missing = journal.missing;
        let warning = format!(
            "{missing} commits are missing at the end of {name}: its log was cut or damaged, and saves that were \
             acknowledged with them are lost unless they were sent before"
        );
        tracing::error!("{warning}");
        warnings.push(warning);
    }
    if !left.damaged.is_empty() {
        let count = left.damaged.len();
        let warning = format!(
            "{count} saves in {name} are damaged: they are kept in its table `damaged`, and not sent"
        );
        tracing::error!("{warning}");
        warnings.push(warning);
    }
    if !left.unproven_ids.is_empty() {
        tracing::info!(
            journal = %name,
            servers = left.unproven_ids.len(),
            "a copy, or from before the machine was started: the leases of its servers run out by themselves"
        );
    }
}

async fn adopt_from(
    folder: &Path,
    own: &mut JournalFile,
    backend: Option<&str>,
    recovered: &mut Recovered,
) -> Result<bool, JournalError> {
    let mut any = false;
    for number in 0..MAX_JOURNALS {
        let path = path_in(folder, number);
        if path == own.path || !path.exists() {
            continue;
        }
        let (mut other, left) = match open_for(&path, backend).await {
            Ok(Opened::Ours(journal, left)) => (*journal, left),
            Ok(Opened::Foreign(warning)) => {
                recovered.warn(warning);
                continue;
            }
            Err(JournalError::InUse(_)) => continue,
            Err(JournalError::Damaged(why)) => {
                keep_aside(&path, &why, own, backend, recovered).await?;
                continue;
            }
            Err(error) => {
                recovered.warn(left_alone(&path, &error));
                continue;
            }
        };
        let mut warnings = Vec::new();
        warn_of(&other, &left, &mut warnings);
        for warning in warnings {
            recovered.warn(warning);
        }
        if left.is_empty() && other.missing == 0 {
            other.close().await;
            continue;
        }
        let copied = copy_into(own, &left).await;
        // What is read is sent even if it could not be copied: then it is found again later.
        recovered.saves.extend(left.saves);
        recovered.unproven_ids.extend(left.unproven_ids);
        let emptied = match copied {
            // Claiming it puts damaged rows where they outlive the others, and notes that commits are missing.
            Ok(()) => match other.claim(backend).await {
                Ok(()) => other.clear().await,
                failed => failed,
            },
            Err(_) => Ok(()),
        };
        other.close().await;
        copied?;
        match emptied {
            Ok(()) => any = true,
            Err(JournalError::Full(why)) => return Err(JournalError::Full(why)),
            Err(error) => recovered.warn(format!("{} cannot be emptied: {error}", path.display())),
        }
    }
    Ok(any)
}

async fn copy_into(own: &mut JournalFile, left: &Left) -> Result<(), JournalError> {
    own.write(&Changes { saves: left.saves.clone(), ..Changes::default() }).await?;
    for server_id in &left.server_ids {
        own.write(&Changes { server_id: Some(server_id.clone()), ..Changes::default() }).await?;
    }
    Ok(())
}

impl Recovered {
    /// Adds something for a person, once.
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

#[async_trait]
impl JournalSource for JournalFolder {
    async fn open(&self, backend: Option<&str>) -> Result<(Box<dyn Journal>, Recovered), JournalError> {
        make_folder(&self.folder).map_err(|error| from_io(&self.folder, &error))?;
        let mut warnings = std::mem::take(&mut *self.untold());
        if let Some(why) = passing_volume(&self.folder) {
            warnings.push(format!(
                "unsent saves in {} do not survive the container: {why}; set BACKEND_JOURNAL_FOLDER to a volume",
                self.folder.display()
            ));
        }
        let held = lock(&self.folder, LOCK_TIMEOUT).await?;
        let (number, mut own, left) = self.first_free(held.is_none(), backend, &mut warnings).await?;
        warn_of(&own, &left, &mut warnings);
        let mut recovered = Recovered {
            saves: left.saves,
            unproven_ids: left.unproven_ids,
            warnings,
            ..Recovered::default()
        };
        if own.is_claimed() && held.is_some() {
            match self.adopt(&mut own, backend, &mut recovered).await {
                // On a full disk later, when there is room.
                Ok(()) | Err(JournalError::Full(_)) => {}
                Err(error) => {
                    *self.untold() = recovered.warnings;
                    return Err(error);
                }
            }
        }
        let mut told = HashSet::new();
        recovered.warnings.retain(|warning| told.insert(warning.clone()));
        let backend = backend.map(str::to_owned);
        let own = Some(own);
        Ok((
            Box::new(OwnJournal { folder: self.clone(), number, backend, file: own, server_id: None, told }),
            recovered,
        ))
    }

    async fn count_unsent(&self) -> Result<usize, JournalError> {
        if !self.folder.is_dir() && !self.former.iter().any(|former| former.is_dir()) {
            return Ok(0);
        }
        let mut count = 0;
        for folder in std::iter::once(&self.folder).chain(&self.former) {
            let paths: Vec<PathBuf> = (0..MAX_JOURNALS)
                .map(|number| path_in(folder, number))
                .filter(|path| path.exists())
                .collect();
            // A file that somebody else is counting, or moving, just now is in use, and nobody's all the same.
            let held = if paths.is_empty() { None } else { lock(folder, LOCK_TIMEOUT).await? };
            count += usize::from(held.is_none() && !paths.is_empty());
            for path in paths {
                match JournalFile::open(&path).await {
                    Ok(mut journal) => {
                        // Whatever cannot be read, or is not there any more, is something.
                        count += journal.left().await.map_or(1, |left| left.saves.len() + left.damaged.len());
                        count += usize::from(journal.missing > 0);
                        journal.close().await;
                    }
                    Err(JournalError::InUse(_)) => {}
                    Err(_) => count += damaged::count(&path).await,
                }
            }
            count += damaged::count_aside(folder).await;
        }
        Ok(count)
    }
}

/// The journal of this process, among those of others.
struct OwnJournal {
    folder: JournalFolder,
    number: usize,
    backend: Option<String>,
    /// `None` only if a file that was thrown away could not be made anew.
    file: Option<JournalFile>,
    /// The id of this process in the file.
    server_id: Option<String>,
    /// Warnings that were given.
    told: HashSet<String>,
}

impl OwnJournal {
    /// The file, ready to be written to.
    async fn file(&mut self) -> Result<&mut JournalFile, JournalError> {
        if self.file.is_none() {
            self.file = Some(JournalFile::open(&self.folder.path(self.number)).await?);
        }
        let backend = self.backend.as_deref();
        let Some(file) = &mut self.file else {
            return Err(JournalError::Io("there is no file".to_owned()));
        };
        if !file.is_claimed() {
            file.claim(backend).await?;
        }
        Ok(file)
    }

    /// On a full disk, a file in which everything is settled is thrown away, log and all: that needs no room.
    async fn throw_away_if_settled(&mut self, changes: &Changes) -> bool {
        let own_id = changes.server_id.as_deref().or(self.server_id.as_deref());
        let Some(file) = &mut self.file else { return true };
        if !file.is_settled_by(changes, own_id).await {
            return false;
        }
        // Nobody may be about to open it.
        let Ok(Some(_lock)) = lock(&self.folder.folder, Duration::ZERO).await else { return false };
        if let Some(file) = self.file.take() {
            file.remove().await;
        }
        true
    }

    async fn try_write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        self.file().await?.write(changes).await
    }
}

#[async_trait]
impl Journal for OwnJournal {
    async fn write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        match self.try_write(changes).await {
            Err(JournalError::Full(why)) => {
                if !self.throw_away_if_settled(changes).await {
                    return Err(JournalError::Full(why));
                }
                let whole = Changes {
                    server_id: changes.server_id.clone().or_else(|| self.server_id.clone()),
                    ..changes.clone()
                };
                self.try_write(&whole).await?;
            }
            written => written?,
        }
        if changes.server_id.is_some() {
            self.server_id.clone_from(&changes.server_id);
        }
        Ok(())
    }

    async fn adopt(&mut self, recovered: &mut Recovered) -> Result<(), JournalError> {
        let folder = self.folder.clone();
        let backend = self.backend.clone();
        self.file().await?.check_place()?;
        // Whoever has the lock takes it over.
        let Some(_lock) = lock(&folder.folder, Duration::ZERO).await? else { return Ok(()) };
        let outcome = folder.adopt(self.file().await?, backend.as_deref(), recovered).await;
        recovered.warnings.retain(|warning| self.told.insert(warning.clone()));
        outcome
    }

    async fn rest(&mut self) -> Result<(), JournalError> {
        match &mut self.file {
            Some(file) => file.rest().await,
            None => Ok(()),
        }
    }

    async fn clear(&mut self) -> Result<(), JournalError> {
        match &mut self.file {
            Some(file) => file.clear().await,
            None => Ok(()),
        }
    }

    async fn close(self: Box<Self>) {
        if let Some(file) = self.file {
            file.close().await;
        }
    }
}
