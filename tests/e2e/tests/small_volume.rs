//! The journal on a volume that is small, or full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use backend_client::journal::{
    Changes, Journal, JournalError, JournalFolder, JournalSource, Record, Settled,
};
use backend_client::player_store::RawJson;
use serde_json::json;
use tokio::runtime::Builder;

/// Set in the process that has a volume of its own, to where that is.
const VOLUME: &str = "SMALL_VOLUME";

/// Runs the test of this name once more, in a process of its own that has a tmpfs of this size. Gives its folder there.
fn on_a_volume(name: &str, size: &str) -> Result<Option<std::path::PathBuf>> {
    if let Some(folder) = std::env::var_os(VOLUME) {
        return Ok(Some(folder.into()));
    }
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--mount", "sh", "-c", "mount -t tmpfs -o \"size=$1\" disk \"$0\" && shift && exec \"$@\""])
        .arg(folder.path())
        .arg(size)
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(VOLUME, folder.path())
        .output()
        .context("needs `unshare` of util-linux")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(None)
}

fn record(player: u64, sequence: i64, letters: usize) -> Result<Record> {
    let value = json!({ "n": sequence, "ballast": "x".repeat(letters) });
    let value = RawJson::from(value.as_object().context("an object")?);
    Ok(Record {
        player_id: format!("player-{player}"),
        key: "progress".into(),
        epoch: 1,
        sequence,
        value,
        loaded_version: None,
    })
}

fn settled(record: &Record) -> Settled {
    let Record { player_id, key, epoch, sequence, .. } = record.clone();
    Settled { player_id, key, epoch, sequence }
}

fn saving(record: &Record) -> Changes {
    Changes { saves: vec![record.clone()], ..Changes::default() }
}

/// Takes all the space there is, until the file is removed.
fn fill(path: &Path) -> Result<()> {
    let mut filler = File::create(path)?;
    for size in [64 * 1024, 1] {
        loop {
            match filler.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => bail!("the disk is not full, but {error}"),
            }
        }
    }
    Ok(())
}

fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn is_full(journal: &mut Box<dyn Journal>, record: &Record) -> Result<()> {
    let outcome = journal.write(&saving(record)).await;
    ensure!(matches!(outcome, Err(JournalError::Full(_))), "{outcome:?}");
    Ok(())
}

#[test]
fn small_saves_go_on_where_the_log_alone_would_fill_the_volume() -> Result<()> {
    let Some(folder) = on_a_volume("small_saves_go_on_where_the_log_alone_would_fill_the_volume", "23m")?
    else {
        return Ok(());
    };
    run(async {
        let source = JournalFolder::new(folder.join("journal"));
        let (mut journal, _) = source.open(Some("a")).await?;
        // At 60 a second, more than ten times as long as it took the log to fill the volume.
        for number in 1..=17_000 {
            let save = record(number % 32, i64::try_from(number)?, 60)?;
            journal.write(&Changes { settled: vec![settled(&save)], ..saving(&save) }).await?;
        }
        journal.close().await;
        Ok(())
    })
}

#[test]
fn a_full_volume_takes_the_same_journal_up_again() -> Result<()> {
    let Some(folder) = on_a_volume("a_full_volume_takes_the_same_journal_up_again", "16m")? else {
        return Ok(());
    };
    run(async {
        let source = JournalFolder::new(folder.join("journal"));
        let filler = folder.join("filler");
        let (mut journal, _) = source.open(Some("a")).await?;
        journal.write(&saving(&record(1, 1, 1_000)?)).await?;
        fill(&filler)?;
        // Larger than what the log has left.
        let large = record(2, 1, 900_000)?;
        is_full(&mut journal, &large).await?;
        is_full(&mut journal, &large).await?;
        fs::remove_file(&filler)?;
        journal.write(&saving(&large)).await?;
        journal.close().await;
        // At the start: what is there is found on a full volume, and the journal is taken up when there is room.
        fill(&filler)?;
        let (mut journal, recovered) = source.open(Some("a")).await?;
        ensure!(recovered.saves.len() == 2, "{} saves are found", recovered.saves.len());
        let another = record(3, 1, 900_000)?;
        is_full(&mut journal, &another).await?;
        fs::remove_file(&filler)?;
        journal.write(&saving(&another)).await?;
        journal.close().await;
        let (journal, recovered) = source.open(Some("a")).await?;
        ensure!(recovered.saves.len() == 3, "{} saves are found", recovered.saves.len());
        journal.close().await;
        Ok(())
    })
}

#[test]
fn a_log_that_filled_the_volume_is_thrown_away_once_it_is_delivered() -> Result<()> {
    let Some(folder) = on_a_volume("a_log_that_filled_the_volume_is_thrown_away_once_it_is_delivered", "4m")?
    else {
        return Ok(());
    };
    run(async {
        let place = folder.join("journal");
        let source = JournalFolder::new(&place);
        // As an earlier version left it: a log without bound, and nothing else on the volume.
        let save = record(1, 1, 300_000)?;
        let (mut journal, _) = source.open(Some("a")).await?;
        journal.write(&saving(&save)).await?;
        let copy = tempfile::tempdir_in("/dev/shm")?;
        for name in ["journal-0.db", "journal-0.db-wal"] {
            fs::copy(place.join(name), copy.path().join(name))?;
        }
        journal.close().await;
        for name in ["journal-0.db", "journal-0.db-wal"] {
            fs::copy(copy.path().join(name), place.join(name))?;
        }
        fill(&folder.join("filler"))?;
        let (mut journal, recovered) = source.open(Some("a")).await?;
        ensure!(recovered.saves == [save.clone()], "{} saves are found", recovered.saves.len());
        let next = record(2, 1, 1_000)?;
        is_full(&mut journal, &next).await?;
        // Everything in it is with the backend.
        journal.write(&Changes { settled: vec![settled(&save)], ..saving(&next) }).await?;
        journal.close().await;
        let (journal, recovered) = source.open(Some("a")).await?;
        ensure!(recovered.saves == [next], "{} saves are found", recovered.saves.len());
        journal.close().await;
        tokio::time::sleep(Duration::ZERO).await;
        Ok(())
    })
}
