//! A folder of journals on a disk that outlives processes, and fails on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Dice, Power};
use crate::journal::{Changes, Journal, JournalError, JournalSource, Record, Recovered};

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskTrouble {
    Full,
    ReadOnly,
    /// Writes fail, and nobody knows whether they were done.
    Io,
}

/// A folder. Clones are the same one.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<Folder>>);

/// Public fields are for tests to look at and to turn.
pub struct Folder {
    pub slots: Vec<Slot>,
    /// Every opening or write fails with this until it is taken away.
    pub trouble: Option<DiskTrouble>,
    /// Counts down with the writes; the one that reaches 0 fails. True: but it has been done.
    pub fail_write: Option<(usize, bool)>,
    /// Writes of a thousand that fail, done or not.
    pub roughness: u64,
    pub write_takes: (u64, u64),
    pub writes: usize,
    pub dice: Dice,
    /// Writes that failed.
    pub failed: u64,
    processes: usize,
    /// Who takes over what the dead left.
    lock: Option<usize>,
}

/// One journal.
#[derive(Default)]
pub struct Slot {
    pub holder: Option<usize>,
    pub damaged: bool,
    /// By player, key and epoch.
    pub saves: BTreeMap<(String, String, i64), Record>,
    pub server_ids: BTreeSet<String>,
}

impl SimulatedDisk {
    pub fn new(dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(Folder {
            slots: Vec::new(),
            trouble: None,
            fail_write: None,
            roughness: 0,
            write_takes: (1, 4),
            writes: 0,
            dice,
            failed: 0,
            processes: 0,
            lock: None,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Folder> {
        self.0.lock().expect("not poisoned")
    }

    /// The folder as one process has it. Once `power` is cut and [`Self::died`] told, what that process held is free.
    pub fn process(&self, power: &Arc<Power>) -> Arc<ProcessDisk> {
        let mut folder = self.lock();
        folder.processes += 1;
        Arc::new(ProcessDisk { disk: self.clone(), power: Arc::clone(power), process: folder.processes })
    }

    pub fn died(&self, process: &ProcessDisk) {
        let mut folder = self.lock();
        if folder.lock == Some(process.process) {
            folder.lock = None;
        }
        for slot in &mut folder.slots {
            if slot.holder == Some(process.process) {
                slot.holder = None;
            }
        }
    }

    /// The largest sequence of this document and epoch that any journal keeps.
    pub fn newest(&self, player_id: &str, key: &str, epoch: i64) -> Option<i64> {
        let name = (player_id.to_owned(), key.to_owned(), epoch);
        let folder = self.lock();
        folder
            .slots
            .iter()
            .filter(|slot| !slot.damaged)
            .filter_map(|slot| Some(slot.saves.get(&name)?.sequence))
            .max()
    }

    /// Saves in all journals.
    pub fn saves(&self) -> Vec<Record> {
        self.lock().slots.iter().flat_map(|slot| slot.saves.values().cloned()).collect()
    }
}

impl Folder {
    fn trouble(&self) -> Result<(), JournalError> {
        match self.trouble {
            None => Ok(()),
            Some(DiskTrouble::Full) => Err(JournalError::Full("full".into())),
            Some(DiskTrouble::ReadOnly) => Err(JournalError::ReadOnly("read-only".into())),
            Some(DiskTrouble::Io) => Err(JournalError::Io("input/output error".into())),
        }
    }

    /// Whether the next write fails with an unknown outcome, and whether it is done then.
    fn next_write(&mut self) -> Option<bool> {
        self.writes += 1;
        if let Some((left, done)) = &mut self.fail_write {
            *left -= 1;
            if *left == 0 {
                let done = *done;
                self.fail_write = None;
                return Some(done);
            }
        }
        let broken = self.trouble == Some(DiskTrouble::Io) || self.dice.chance(self.roughness);
        broken.then(|| self.dice.chance(500))
    }
}

impl Slot {
    fn apply(&mut self, changes: &Changes) {
        for record in &changes.saves {
            let name = (record.player_id.clone(), record.key.clone(), record.epoch);
            let newer = self.saves.get(&name).is_none_or(|known| known.sequence < record.sequence);
            if newer {
                self.saves.insert(name, record.clone());
            }
        }
        for settled in &changes.settled {
            let name = (settled.player_id.clone(), settled.key.clone(), settled.epoch);
            if self.saves.get(&name).is_some_and(|known| known.sequence <= settled.sequence) {
                self.saves.remove(&name);
            }
        }
        self.server_ids.extend(changes.server_id.clone());
        self.server_ids.retain(|id| !changes.buried.contains(id));
    }
}

/// A folder as one process has it.
pub struct ProcessDisk {
    disk: SimulatedDisk,
    power: Arc<Power>,
    process: usize,
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
                if slot.holder.is_some() || slot.damaged {
                    continue;
                }
                slot.holder = Some(self.process);
                (slot.saves.clone(), slot.server_ids.clone())
            };
            any |= !left.0.is_empty() || !left.1.is_empty();
            self.takes_time().await;
            let saves: Vec<Record> = left.0.into_values().collect();
            recovered.saves.extend(saves.iter().cloned());
            {
                let mut folder = self.disk.lock();
                folder.slots[own].apply(&Changes { saves, ..Changes::default() });
                folder.slots[own].server_ids.extend(left.1);
            }
            self.takes_time().await;
            let slot = &mut self.disk.lock().slots[other];
            slot.saves.clear();
            slot.server_ids.clear();
            slot.holder = None;
        }
        Ok(any)
    }

    async fn takes_time(&self) {
        let pause = {
            let mut folder = self.disk.lock();
            let (least, most) = folder.write_takes;
            folder.dice.milliseconds(least, most)
        };
        tokio::time::sleep(pause).await;
        self.power.on().await;
    }
}

#[async_trait]
impl JournalSource for ProcessDisk {
    async fn count_unsent(&self) -> Result<usize, JournalError> {
        self.power.on().await;
        let free = |slot: &&Slot| slot.holder.is_none();
        Ok(self.disk.lock().slots.iter().filter(free).map(|slot| slot.saves.len()).sum())
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
            for (number, slot) in folder.slots.iter().enumerate().filter(|(_, slot)| slot.damaged) {
                debug_assert!(slot.holder.is_none());
                recovered.warnings.push(format!("journal-{number} is left alone: damaged"));
            }
            let free = folder.slots.iter().position(|slot| slot.holder.is_none() && !slot.damaged);
            let free = free.filter(|_| lock.is_some());
            let own = free.unwrap_or_else(|| {
                folder.slots.push(Slot::default());
                folder.slots.len() - 1
            });
            folder.slots[own].holder = Some(self.process);
            own
        };
        let journal = SimulatedJournal {
            disk: ProcessDisk {
                disk: self.disk.clone(),
                power: Arc::clone(&self.power),
                process: self.process,
            },
            slot: own,
        };
        self.takes_time().await;
        if lock.is_some() {
            self.adopt(own, &mut recovered).await?;
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
        let early = folder.dice.chance(500);
        let failed = folder.next_write();
        let done = sound && failed.unwrap_or(early);
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
        Ok(())
    }

    async fn close(self: Box<Self>) {
        self.disk.power.on().await;
    }
}
