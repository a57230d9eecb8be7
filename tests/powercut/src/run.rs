//! All cuts of a run, on several file systems at a time, and the one line they come to.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use crate::cut::{Outcome, Site};
use crate::model::Complaints;
use crate::plan::Plan;
use crate::{BROKEN, NOT_RUN, Options, volume};

/// Cuts after which a file system is made anew.
const CUTS_PER_VOLUME: u64 = 25;
/// Complaints shown of one cut; its report has all.
const SHOWN: usize = 5;

/// What all threads share.
struct Run<'a> {
    options: &'a Options,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    next: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    cuts: u64,
    early: u64,
    acknowledged: u64,
    lost: usize,
    damaged: usize,
    unopened: usize,
}

/// Runs as told by the command line.
pub fn run(options: &Options) -> ExitCode {
    let folder = options.folder.join(format!("run-{}", std::process::id()));
    let missing = volume::isolate().and_then(|()| volume::probe(&folder.join("probe"))).err();
    // The image of the probe takes the room of another.
    let _may_not_exist = fs::remove_dir_all(&folder);
    if let Some(missing) = missing {
        test_harness::print_error_line!("powercut: not run on this machine: {missing}");
        return ExitCode::from(NOT_RUN);
    }
    if let Err(error) = sweep(&options.folder) {
        test_harness::print_error_line!("powercut: what earlier runs left stays: {error}");
    }
    let (stop, next, tally) = (Arc::default(), AtomicU64::new(0), Mutex::default());
    let run = Run { options, folder, stop, next, tally };
    let done = run.all();
    // Reports of complaints stay, unless they are what a control is for; images go.
    let kept = match &done {
        Ok(true) => fs::remove_dir_all(&run.folder),
        _ => remove_images(&run.folder),
    };
    if let Err(error) = kept {
        test_harness::print_error_line!("powercut: cannot clear {}: {error}", run.folder.display());
    }
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            test_harness::print_error_line!("powercut: {error:#}");
            ExitCode::from(BROKEN)
        }
    }
}

/// Removes the images of runs that were killed. Their mounts and loop devices went with them.
fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let id = path.file_name().and_then(|name| name.to_str()?.strip_prefix("run-"));
        if id.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove_images(&path)?;
            // Only if there is no report in it.
            let _kept = fs::remove_dir(&path);
        }
    }
    Ok(())
}

fn remove_images(run: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(run)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

impl Run<'_> {
    fn all(&self) -> Result<bool> {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The first one unwinds, so that everything is unmounted; a second one does not wait for that.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&self.stop))?;
            signal_hook::flag::register(signal, Arc::clone(&self.stop))?;
        }
        let begin = Instant::now();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.options.jobs.unwrap_or(cores.min(4));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs).map(|number| scope.spawn(move || self.work(number))).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked, as it says above")))
            })
        })?;
        let Tally { cuts, early, acknowledged, lost, damaged, unopened } = *self.tally();
        let wrong = lost + damaged > 0;
        let (good, verdict) = match &self.options.control {
            Some(name) if wrong => (true, format!("CAUGHT control={name}")),
            Some(name) => (false, format!("NOT CAUGHT control={name}")),
            None if wrong || unopened > 0 => (false, "FAIL".to_owned()),
            None if cuts < self.options.cuts => (false, "INCOMPLETE".to_owned()),
            None => (true, "PASS".to_owned()),
        };
        test_harness::print_line!(
            "powercut: {verdict} cuts={cuts} acked={acknowledged} lost={lost} damaged={damaged} unopened={unopened} seed={} while_opening={early} seconds={:.1}",
            self.options.seed,
            begin.elapsed().as_secs_f64(),
        );
        Ok(good)
    }

    fn work(&self, number: usize) -> Result<()> {
        let result = self.cut_all(&self.folder.join(format!("volume-{number}")));
        if result.is_err() {
            // The others need not go on: a broken harness proves nothing.
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    fn cut_all(&self, folder: &Path) -> Result<()> {
        // Before the runtime: its threads are to see it too.
        let boot_id = volume::own_boot_id(folder)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut site: Option<Site> = None;
        let mut uses = 0;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.options.cuts || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if uses == CUTS_PER_VOLUME {
                (site, uses) = (None, 0);
            }
            let open = match &mut site {
                Some(open) => open,
                None => site.insert(Site::make(folder, &boot_id)?),
            };
            uses += 1;
            let plan = Plan {
                index,
                ..Plan::draw(self.options.seed, self.options.only.unwrap_or(index), self.options.subject)
            };
            let outcome = open
                .cut(&plan, &self.options.writer, &runtime)
                .with_context(|| format!("cut {index}: {plan:?}"))?;
            self.book(&outcome);
            if !outcome.complaints.is_empty() {
                self.report(&plan, &outcome)?;
                // What the next cuts would find is no news.
                (site, uses) = (None, 0);
                // One that only spoils an opening has not been caught losing anything.
                let Complaints { lost, damaged, .. } = &outcome.complaints;
                if self.options.control.is_some() && lost.len() + damaged.len() > 0 {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self, outcome: &Outcome) {
        let mut tally = self.tally();
        tally.cuts += 1;
        tally.early += u64::from(outcome.early);
        tally.acknowledged += outcome.acknowledged;
        tally.lost += outcome.complaints.lost.len();
        tally.damaged += outcome.complaints.damaged.len();
        tally.unopened += usize::from(!outcome.complaints.unopened.is_empty());
    }

    /// Tells what is wrong; all of it and what the writers said is in a file.
    fn report(&self, plan: &Plan, outcome: &Outcome) -> Result<()> {
        let path = self.folder.join(format!("cut-{}.txt", plan.index));
        let mut text = format!("{plan:?}\n");
        let complaints: Vec<String> =
            outcome.complaints.all().map(|(kind, what)| format!("{kind}: {what}")).collect();
        // A control is to lose data: nobody needs to be alarmed.
        if self.options.control.is_none() {
            test_harness::print_line!(
                "cut {} ({:?}): {} complaints",
                plan.index,
                plan.cut_point,
                complaints.len()
            );
            for complaint in complaints.iter().take(SHOWN) {
                test_harness::print_line!("  {complaint}");
            }
            test_harness::print_line!("  all of it: {}", path.display());
        }
        for line in complaints {
            writeln!(text, "{line}")?;
        }
        for line in &outcome.said {
            writeln!(text, "{line}")?;
        }
        fs::write(&path, text)?;
        Ok(())
    }
}
