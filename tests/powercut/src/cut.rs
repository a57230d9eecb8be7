//! One cut from beginning to end.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::Subject;
use crate::inspection;
use crate::model::{Complaints, Model};
use crate::plan::{CutPoint, Plan};
use crate::protocol::{Line, monotonic};
use crate::volume::Volume;
use crate::writer_process::Writer;

/// Folders of the journals and the world that live through many cuts.
const JOURNALS: &str = "journals";
const WORLDS: &str = "worlds";

/// A file system and what has to be in it.
pub struct Site {
    volume: Volume,
    model: Model,
    /// Where the backend, which is on another machine, keeps the version of the world.
    world_version: PathBuf,
}

/// What came of one cut.
pub struct Outcome {
    /// Saves acknowledged before it.
    pub acknowledged: u64,
    /// Whether it met a process that had acknowledged nothing yet: one that was making or taking over journals or a world.
    pub early: bool,
    /// What is wrong.
    pub complaints: Complaints,
    /// What the writers said, for a report.
    pub said: Vec<Line>,
}

impl Site {
    /// A fresh file system with its files in `folder`, on a machine whose boot id is in this file.
    pub fn make(folder: &Path, boot_id: &Path) -> Result<Self> {
        let volume = Volume::make(folder, boot_id.to_owned())?;
        Ok(Self { volume, model: Model::default(), world_version: folder.join("world-version") })
    }

    /// Does as planned, with `program` as the writer.
    pub fn cut(&mut self, plan: &Plan, program: &Path, runtime: &tokio::runtime::Runtime) -> Result<Outcome> {
        let players = |number: usize| format!("cut-{}-{number}", plan.index);
        let name = match plan.subject {
            Subject::Players => JOURNALS,
            Subject::World => WORLDS,
        };
        let world_version = self.world_version.as_path();
        let mut folder = self.volume.path().join(name);
        if matches!(plan.cut_point, CutPoint::Creation { .. }) {
            // Two folders deep: both names have to survive.
            folder = self.volume.path().join(format!("fresh-{}", plan.index)).join(name);
        }
        let mut acknowledged = 0;
        let mut said = Vec::new();
        let mut fresh = Model::default();
        let model = match (plan.subject, &plan.cut_point) {
            // What is left in a world is with the backend once it was opened: nothing has to stay.
            (Subject::World, _) | (_, CutPoint::Creation { .. }) => &mut fresh,
            _ => &mut self.model,
        };
        if let CutPoint::Recovery { killed, lifetime, .. } = &plan.cut_point {
            // Journals are written at a time, a world by one process after another.
            let at_a_time = if plan.subject == Subject::World { 1 } else { killed.len() };
            for (turn, group) in killed.chunks(at_a_time).enumerate() {
                let mut writers = Vec::new();
                for (number, writer) in group.iter().enumerate() {
                    let players = players(turn + number + 1);
                    writers.push(Writer::start(program, &folder, world_version, &players, writer)?);
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
        }
        let mut writer = Writer::start(program, &folder, world_version, &players(0), &plan.writer)?;
        let after = match plan.cut_point {
            CutPoint::Saving { after } | CutPoint::Creation { acknowledged: true, after } => {
                writer.wait_for(is_acknowledgement)?;
                after
            }
            CutPoint::Creation { acknowledged: false, after } | CutPoint::Recovery { after, .. } => {
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
        let complaints = runtime.block_on(async {
            match plan.subject {
                Subject::Players => inspection::journals(&folder, model).await,
                Subject::World => inspection::world(&folder, world_version, model).await,
            }
        })?;
        Ok(Outcome { acknowledged, early: last == 0, complaints, said })
    }
}

fn is_acknowledgement(line: &Line) -> bool {
    matches!(line, Line::Acknowledged { .. })
}
