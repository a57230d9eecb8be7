//! The folder as one process has it: its lock, its journal, and what it takes over from dead processes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backend_client::journal::{Changes, Journal, JournalError, JournalSource, Record, Recovered};

use super::{DiskTrouble, SimulatedDisk, Slot};
use crate::Power;

/// A folder as one process has it.
pub struct ProcessDisk {
    pub(super) disk: SimulatedDisk,
    pub(super) power: Arc<Power>,
    pub(super) process: usize,
    /// Warnings of an opening that failed.
    pub(super) unreported: Mutex<Vec<String>>,
}

/// The lock of the folder, until it is dropped.
struct FolderLock<'a>(&'a ProcessDisk);

impl Drop for FolderLock<'_> {
    fn drop(&mut self) {
        let mut folder = self.0.disk.lock();
        if folder.lock == Some(self.0.process) {
            folder.lock = None;
        }
    }
}

impl ProcessDisk {
    /// `None` when another process keeps it for so many looks.
    async fn folder_lock(&self, looks: usize) -> Option<FolderLock<'_>> {
        for _ in 0..looks {
            {
                let mut folder = self.disk.lock();
                if folder.lock.is_none() {
                    folder.lock = Some(self.process);
                    return Some(FolderLock(self));
                }
            }
            self.takes_time().await;
        }
        None
    }

    /// What dead processes left is moved: first it is in both places, then only in `own`.
    async fn adopt(&self, own: usize, recovered: &mut Recovered) -> Result<(), JournalError> {
        while self.adopt_once(own, recovered).await? {}
        recovered.server_ids = self.disk.lock().slots[own].server_ids.iter().cloned().collect();
        Ok(())
    }

    async fn adopt_once(&self, own: usize, recovered: &mut Recovered) -> Result<bool, JournalError> {
        let mut any = false;
        let others = self.disk.lock().slots.len();
        for other in (0..others).filter(|other| *other != own) {
            let left = {
                let mut folder = self.disk.lock();
                folder.trouble()?;
                let slot = &mut folder.slots[other];
                if slot.holder.is_some() {
                    continue;
                }
                slot.holder = Some(self.process);
                recovered.warnings.extend(slot.damages.values().cloned());
                let saves: Vec<Record> = slot.sound().cloned().collect();
                let server_ids = if slot.damaged { BTreeSet::new() } else { slot.server_ids.clone() };
                (saves, server_ids)
            };
            any |= !left.0.is_empty() || !left.1.is_empty();
            self.takes_time().await;
            let saves = left.0;
            recovered.saves.extend(saves.iter().cloned());
            {
                let mut folder = self.disk.lock();
                folder.slots[own].apply(&Changes { saves, ..Changes::default() });
                folder.slots[own].server_ids.extend(left.1);
            }
            self.takes_time().await;
            let mut folder = self.disk.lock();
            let _told = folder.take_damage(other, self.process);
            let slot = &mut folder.slots[other];
            slot.saves.clear();
            slot.server_ids.clear();
            slot.earlier.clear();
            slot.holder = None;
        }
        Ok(any)
    }

    async fn takes_time(&self) {
        let pause = {
            let mut folder = self.disk.lock();
            let (least, most) = folder.write_takes;
            folder.rng.milliseconds(least, most)
        };
        tokio::time::sleep(pause).await;
        self.power.on().await;
    }
}

#[async_trait]
impl JournalSource for ProcessDisk {
    async fn count_unsent(&self) -> Result<usize, JournalError> {
        self.power.on().await;
        let Some(_lock) = self.folder_lock(100).await else { return Ok(1) };
        let free = |slot: &&Slot| slot.holder.is_none();
        // Whatever cannot be read, or is not there any more, is something until somebody is told.
        let count = |slot: &Slot| slot.sound().count() + slot.damages.len();
        Ok(self.disk.lock().slots.iter().filter(free).map(count).sum())
    }

    // One folder, one backend: whose files are whose is tried on real ones.
    async fn open(&self, _backend: Option<&str>) -> Result<(Box<dyn Journal>, Recovered), JournalError> {
        self.power.on().await;
        self.takes_time().await;
        let mut recovered = Recovered::default();
        let lock = self.folder_lock(100).await;
        let own = {
            let mut folder = self.disk.lock();
            folder.trouble()?;
            let free = folder.slots.iter().position(|slot| slot.holder.is_none() && !slot.damaged);
            let free = free.filter(|_| lock.is_some());
            let own = free.unwrap_or_else(|| {
                folder.slots.push(Slot::default());
                folder.slots.len() - 1
            });
            folder.slots[own].holder = Some(self.process);
            // Opening it sets aside, durably, what is damaged in it.
            recovered.warnings = std::mem::take(&mut *self.unreported.lock().expect("not poisoned"));
            recovered.warnings.extend(folder.take_damage(own, self.process));
            own
        };
        let journal = SimulatedJournal {
            disk: ProcessDisk {
                disk: self.disk.clone(),
                power: Arc::clone(&self.power),
                process: self.process,
                unreported: Mutex::default(),
            },
            slot: own,
        };
        self.takes_time().await;
        if lock.is_some() {
            match self.adopt(own, &mut recovered).await {
                // On a full disk later, when there is room.
                Ok(()) | Err(JournalError::Full(_)) => {}
                Err(error) => {
                    *self.unreported.lock().expect("not poisoned") = recovered.warnings;
                    return Err(error);
                }
            }
        }
        recovered.saves = self.disk.lock().slots[own].saves.values().cloned().collect();
        Ok((Box::new(journal), recovered))
    }
}

struct SimulatedJournal {
    disk: ProcessDisk,
    slot: usize,
}

impl Drop for SimulatedJournal {
    fn drop(&mut self) {
        let slot = &mut self.disk.disk.lock().slots[self.slot];
        if slot.holder == Some(self.disk.process) {
            slot.holder = None;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Begun {
    Nothing,
    All,
}

impl SimulatedJournal {
    /// A process that dies in the middle of a write leaves all of it or nothing.
    fn begin(&self, changes: &Changes) -> Result<Begun, JournalError> {
        let mut folder = self.disk.disk.lock();
        assert_eq!(folder.slots[self.slot].holder, Some(self.disk.process), "written without holding it");
        let sound = !matches!(folder.trouble, Some(DiskTrouble::Full | DiskTrouble::ReadOnly));
        let early = folder.rng.chance(500);
        let failed = folder.next_write();
        let done = sound && failed.unwrap_or(early);
        let remembered = folder.remembered;
        folder.slots[self.slot].remember(remembered);
        if done {
            folder.slots[self.slot].apply(changes);
        }
        if failed.is_some() {
            folder.failed += 1;
        }
        match failed {
            Some(_) => Err(JournalError::Io("input/output error".into())),
            None if done => Ok(Begun::All),
            None => Ok(Begun::Nothing),
        }
    }
}

#[async_trait]
impl Journal for SimulatedJournal {
    async fn write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        self.disk.power.on().await;
        let begun = self.begin(changes);
        self.disk.takes_time().await;
        if begun? == Begun::Nothing {
            let mut folder = self.disk.disk.lock();
            folder.trouble()?;
            folder.slots[self.slot].apply(changes);
        }
        Ok(())
    }

    async fn adopt(&mut self, recovered: &mut Recovered) -> Result<(), JournalError> {
        self.disk.power.on().await;
        match self.disk.folder_lock(1).await {
            Some(_lock) => self.disk.adopt(self.slot, recovered).await,
            None => Ok(()),
        }
    }

    async fn rest(&mut self) -> Result<(), JournalError> {
        self.disk.power.on().await;
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), JournalError> {
        self.disk.power.on().await;
        self.disk.takes_time().await;
        let mut folder = self.disk.disk.lock();
        folder.trouble()?;
        if folder.next_write().is_some() {
            return Err(JournalError::Io("input/output error".into()));
        }
        let slot = &mut folder.slots[self.slot];
        slot.saves.clear();
        slot.server_ids.clear();
        slot.earlier.clear();
        Ok(())
    }

    async fn close(self: Box<Self>) {
        self.disk.power.on().await;
    }
}
