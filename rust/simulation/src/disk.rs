//! A folder of journals on a disk that outlives processes, and fails on demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Power, Rng};
use backend_client::journal::{Changes, Journal, JournalError, JournalSource, Record, Recovered};
use backend_client::player_store::{Content, RawJson};

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
    pub dice: Rng,
    /// Writes that failed.
    pub failed: u64,
    /// So many states of each journal are remembered, so that its log can be cut.
    pub remembered: usize,
    /// Damage that a process has found, and that it is to tell: number of the damage → process.
    found: BTreeMap<u64, usize>,
    /// Number of the last damage.
    pub damages: u64,
    dead: BTreeSet<usize>,
    processes: usize,
    /// Who takes over what the dead left.
    lock: Option<usize>,
}

/// A save's name in a journal: player, key and epoch.
type Name = (String, String, i64);

/// One journal.
#[derive(Default)]
pub struct Slot {
    pub holder: Option<usize>,
    /// The file is: it is kept aside once what can be read in it is elsewhere. It does not say any more who used it.
    pub damaged: bool,
    pub saves: BTreeMap<Name, Record>,
    /// Rows that are not what was written: their checksums say so.
    pub flipped: BTreeSet<Name>,
    pub server_ids: BTreeSet<String>,
    /// What is to be told of it, by number of the damage.
    damages: BTreeMap<u64, String>,
    /// What it had before the last commits.
    earlier: VecDeque<(BTreeMap<Name, Record>, BTreeSet<String>)>,
}

/// What of a journal is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Bits of some rows are flipped.
    Rows,
    /// The same, and its pages make no sense: who used it is not known any more.
    File,
    /// The last commits are gone.
    Log,
}

impl Damaged {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rows => "journal rows damaged",
            Self::File => "journal file damaged",
            Self::Log => "journal log cut",
        }
    }
}

/// What was done to a disk.
pub struct Damage {
    pub number: u64,
    pub what: Damaged,
    /// Saves that are in no journal of the disk any more.
    pub lost: Vec<Record>,
}

impl SimulatedDisk {
    pub fn new(dice: Rng) -> Self {
        Self(Arc::new(Mutex::new(Folder {
            slots: Vec::new(),
            trouble: None,
            fail_write: None,
            roughness: 0,
            write_takes: (1, 4),
            writes: 0,
            dice,
            failed: 0,
            remembered: 0,
            found: BTreeMap::new(),
            damages: 0,
            dead: BTreeSet::new(),
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
        Arc::new(ProcessDisk {
            disk: self.clone(),
            power: Arc::clone(power),
            process: folder.processes,
            untold: Mutex::default(),
        })
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
        folder.dead.insert(process.process);
    }

    /// Damages a journal that nobody holds, if there is one with saves.
    pub fn damage(&self) -> Option<Damage> {
        let (number, what) = {
            let mut folder = self.lock();
            let is_free = |slot: &Slot| slot.holder.is_none() && !slot.damaged && !slot.saves.is_empty();
            let free: Vec<usize> =
                (0..folder.slots.len()).filter(|slot| is_free(&folder.slots[*slot])).collect();
            let number = folder.dice.one_of(&free).copied()?;
            let kinds = [Damaged::Rows, Damaged::File, Damaged::Log];
            let kinds = if folder.slots[number].earlier.is_empty() { &kinds[..2] } else { &kinds };
            (number, folder.dice.one_of(kinds).copied()?)
        };
        Some(self.damage_journal(number, what))
    }

    /// Damages this journal.
    pub fn damage_journal(&self, journal: usize, what: Damaged) -> Damage {
        let mut folder = self.lock();
        let before: Vec<Record> = folder.slots[journal].sound().cloned().collect();
        folder.damages += 1;
        let number = folder.damages;
        match what {
            Damaged::Rows => folder.flip_rows(journal),
            Damaged::File => {
                folder.flip_rows(journal);
                folder.slots[journal].damaged = true;
            }
            Damaged::Log => folder.cut_log(journal),
        }
        folder.slots[journal]
            .damages
            .insert(number, format!("damage {number}: {} in journal-{journal}", what.name()));
        let is_left = |record: &Record| {
            let same = |left: &Record| named(left) == named(record) && left.sequence >= record.sequence;
            folder.slots.iter().any(|slot| slot.sound().any(same))
        };
        let lost = before.into_iter().filter(|record| !is_left(record)).collect();
        Damage { number, what, lost }
    }

    /// Whether whoever found this damage died before it could tell.
    pub fn died_with(&self, damage: u64) -> bool {
        let folder = self.lock();
        folder.found.get(&damage).is_some_and(|process| folder.dead.contains(process))
    }

    /// The largest sequence of this document and epoch that any journal keeps.
    pub fn newest(&self, player_id: &str, key: &str, epoch: i64) -> Option<i64> {
        let name = (player_id.to_owned(), key.to_owned(), epoch);
        let folder = self.lock();
        folder.slots.iter().filter_map(|slot| Some(slot.save(&name)?.sequence)).max()
    }

    /// Saves in all journals.
    pub fn saves(&self) -> Vec<Record> {
        self.lock().slots.iter().flat_map(|slot| slot.sound().cloned()).collect()
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

impl Folder {
    /// The last commits are gone from a journal.
    fn cut_log(&mut self, number: usize) {
        let commits = self.dice.between(1, 3);
        let slot = &mut self.slots[number];
        for _ in 0..commits {
            if let Some((saves, server_ids)) = slot.earlier.pop_back() {
                (slot.saves, slot.server_ids) = (saves, server_ids);
            }
        }
    }

    /// Bits of some rows are flipped: what they say is not what was saved, and their checksums tell.
    fn flip_rows(&mut self, number: usize) {
        let some = self.dice.between(100, 1_000);
        let slot = &mut self.slots[number];
        for (name, record) in &mut slot.saves {
            if self.dice.chance(some) && slot.flipped.insert(name.clone()) {
                record.sequence ^= 1 << self.dice.below(8);
                record.value = RawJson::from(&Content::new());
            }
        }
    }

    /// What a process finds in a journal: the saves that are what was written, the servers, and what is to be told. The
    /// rest is set aside.
    fn take_damage(&mut self, number: usize, process: usize) -> Vec<String> {
        let slot = &mut self.slots[number];
        for name in std::mem::take(&mut slot.flipped) {
            slot.saves.remove(&name);
        }
        if std::mem::take(&mut slot.damaged) {
            slot.server_ids.clear();
        }
        let damages = std::mem::take(&mut slot.damages);
        self.found.extend(damages.keys().map(|damage| (*damage, process)));
        damages.into_values().collect()
    }
}

fn named(record: &Record) -> Name {
    (record.player_id.clone(), record.key.clone(), record.epoch)
}

impl Slot {
    /// The saves that are what was written.
    pub fn sound(&self) -> impl Iterator<Item = &Record> {
        let sound = self.saves.iter().filter(|(name, _)| !self.flipped.contains(*name));
        sound.map(|(_, record)| record)
    }

    /// One of them.
    pub fn save(&self, name: &Name) -> Option<&Record> {
        self.saves.get(name).filter(|_| !self.flipped.contains(name))
    }

    fn remember(&mut self, most: usize) {
        if most == 0 {
            return;
        }
        if self.earlier.len() == most {
            self.earlier.pop_front();
        }
        self.earlier.push_back((self.saves.clone(), self.server_ids.clone()));
    }

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
        self.server_ids.retain(|id| !changes.retired_servers.contains(id));
    }
}

/// A folder as one process has it.
pub struct ProcessDisk {
    disk: SimulatedDisk,
    power: Arc<Power>,
    process: usize,
    /// Warnings of an opening that failed.
    untold: Mutex<Vec<String>>,
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
            recovered.warnings = std::mem::take(&mut *self.untold.lock().expect("not poisoned"));
            recovered.warnings.extend(folder.take_damage(own, self.process));
            own
        };
        let journal = SimulatedJournal {
            disk: ProcessDisk {
                disk: self.disk.clone(),
                power: Arc::clone(&self.power),
                process: self.process,
                untold: Mutex::default(),
            },
            slot: own,
        };
        self.takes_time().await;
        if lock.is_some() {
            match self.adopt(own, &mut recovered).await {
                // On a full disk later, when there is room.
                Ok(()) | Err(JournalError::Full(_)) => {}
                Err(error) => {
                    *self.untold.lock().expect("not poisoned") = recovered.warnings;
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
        let early = folder.dice.chance(500);
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
