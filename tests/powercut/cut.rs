//! One cut from beginning to end.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use backend_client::journal::{JournalFolder, JournalSource as _, Record};

use crate::line::{Line, Name, monotonic};
use crate::model::{Complaints, Model};
use crate::plan::{Moment, Plan};
use crate::volume::Volume;
use crate::writer_process::Writer;

/// Folder of the journals that live through many cuts.
const JOURNALS: &str = "journals";

/// A file system and what has to be in it.
pub struct Site {
    volume: Volume,
    model: Model,
}

/// What came of one cut.
pub struct Outcome {
    /// Saves acknowledged before it.
    pub acknowledged: u64,
    /// Whether it met a process that had acknowledged nothing yet: one that was making or taking over journals.
    pub early: bool,
    /// What is wrong.
    pub complaints: Complaints,
    /// What the writers said, for a report.
    pub said: Vec<Line>,
}

impl Site {
    /// A fresh file system with its files in `folder`.
    pub fn make(folder: &Path) -> Result<Self> {
        Ok(Self { volume: Volume::make(folder)?, model: Model::default() })
    }

    /// Does as planned, with `program` as the writer.
    pub fn cut(&mut self, plan: &Plan, program: &Path, runtime: &tokio::runtime::Runtime) -> Result<Outcome> {
        let players = |number: usize| format!("cut-{}-{number}", plan.index);
        let mut folder = self.volume.path().join(JOURNALS);
        let mut acknowledged = 0;
        let mut said = Vec::new();
        let mut fresh = Model::default();
        let model = match plan.moment {
            // Two folders deep: both names have to survive.
            Moment::Creation { .. } => {
                folder = self.volume.path().join(format!("fresh-{}", plan.index)).join(JOURNALS);
                &mut fresh
            }
            _ => &mut self.model,
        };
        if let Moment::Recovery { killed, lifetime, .. } = &plan.moment {
            let mut writers = Vec::new();
            for (number, writer) in killed.iter().enumerate() {
                writers.push(Writer::start(program, &folder, &players(number + 1), writer)?);
            }
            for writer in &mut writers {
                writer.wait_for(is_acknowledgement)?;
            }
            thread::sleep(Duration::from_micros(*lifetime));
            for writer in writers {
                let lines = writer.kill()?;
                acknowledged += model.learn(&lines, u64::MAX);
                said.extend(lines);
            }
        }
        let mut writer = Writer::start(program, &folder, &players(0), &plan.writer)?;
        let after = match plan.moment {
            Moment::Saving { after } | Moment::Creation { acknowledged: true, after } => {
                writer.wait_for(is_acknowledgement)?;
                after
            }
            Moment::Creation { acknowledged: false, after } | Moment::Recovery { after, .. } => {
                writer.wait_for(|line| *line == Line::Opening)?;
                after
            }
        };
        thread::sleep(Duration::from_micros(after));
        let cut = monotonic();
        self.volume.cut()?;
        let lines = writer.kill()?;
        let last = model.learn(&lines, cut);
        acknowledged += last;
        said.extend(lines);
        self.volume.restart()?;
        let complaints = runtime.block_on(inspect(&folder, model))?;
        Ok(Outcome { acknowledged, early: last == 0, complaints, said })
    }
}

fn is_acknowledgement(line: &Line) -> bool {
    matches!(line, Line::Acknowledged { .. })
}

/// Opens the journals twice, as the product does at its start: the second time, nothing may have changed.
async fn inspect(folder: &Path, model: &mut Model) -> Result<Complaints> {
    let mut damaged = Vec::new();
    let found = read(folder, &mut damaged).await?;
    let mut complaints = model.judge(&found)?;
    let again = read(folder, &mut damaged).await?;
    if found != again {
        damaged.push(format!("{} documents at the first opening, other ones at the second", found.len()));
    }
    complaints.damaged.extend(damaged);
    Ok(complaints)
}

/// What the product finds in the folder; adopting other journals may find a save twice.
async fn read(folder: &Path, damaged: &mut Vec<String>) -> Result<HashMap<Name, Record>> {
    let (journal, recovered) = match JournalFolder::new(folder).open().await {
        Ok(opened) => opened,
        Err(error) => {
            damaged.push(error.to_string());
            return Ok(HashMap::new());
        }
    };
    journal.close().await;
    damaged.extend(recovered.warnings);
    let mut found: HashMap<Name, Record> = HashMap::new();
    for record in recovered.saves {
        let name = Name { player: record.player_id.clone(), key: record.key.clone(), epoch: record.epoch };
        if found.get(&name).is_none_or(|known| known.sequence < record.sequence) {
            found.insert(name, record);
        }
    }
    Ok(found)
}
