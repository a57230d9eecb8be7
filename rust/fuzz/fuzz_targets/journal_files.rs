//! Journals whose files were damaged: the folder opens, nothing comes out that was not put in, what is lost is told, and saves
//! go on.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use backend_client::journal::{Changes, JournalFolder, JournalSource, Record, Recovered};
use backend_client::player_store::RawJson;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const FILES: [&str; 3] = ["journal-0.db", "journal-0.db-wal", "journal-0.db-count"];
const BACKEND: Option<&str> = Some("fuzz");
const COMMITS: i64 = 20;
const PLAYERS: i64 = 7;

/// The files of a process that was killed: half of its commits are in the log.
struct Sound {
    runtime: Runtime,
    folder: PathBuf,
    files: [Vec<u8>; 3],
}

fn record(number: i64) -> Record {
    let value = RawJson::parse(format!("{{\"n\":{number},\"ballast\":\"{}\"}}", "x".repeat(200)));
    Record {
        player_id: format!("player-{}", number % PLAYERS),
        key: "progress".into(),
        epoch: 3,
        sequence: number,
        value: value.expect("JSON"),
        loaded_version: (number % 3 == 0).then_some(number),
    }
}

/// On a disk in memory where there is one: nothing here has to survive.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    above.join(format!("fuzz-journal-{}", std::process::id()))
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = place();
        let files = runtime.block_on(async {
            let (mut journal, _) = JournalFolder::new(&folder).open(BACKEND).await.expect("opens");
            for number in 1..=COMMITS {
                let changes = Changes { saves: vec![record(number)], ..Changes::default() };
                journal.write(&changes).await.expect("written");
                if number == COMMITS / 2 {
                    journal.rest().await.expect("rests");
                }
            }
            let files = FILES.map(|name| fs::read(folder.join(name)).expect("a file"));
            journal.close().await;
            files
        });
        Sound { runtime, folder, files }
    })
}

/// Five bytes are one damage: which file and kind, where, and what.
fn spoil(files: &mut [Vec<u8>; 3], damage: &[u8]) {
    let &[kind, a, b, c, what] = damage else { return };
    let bytes = &mut files[usize::from(kind) % 3];
    let at = (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)) % bytes.len().max(1);
    match kind / 3 % 8 {
        0 => bytes.truncate(at),
        1 => bytes.iter_mut().skip(at).take(512).for_each(|byte| *byte = what),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= what;
            }
        }
    }
}

/// How many of the players have what was saved for them last.
fn newest_in(found: &Recovered) -> usize {
    (COMMITS - PLAYERS + 1..=COMMITS).filter(|number| found.saves.contains(&record(*number))).count()
}

/// Whether a warning names the file, folder and all.
fn is_told(found: &Recovered, folder: &Path, words: &str) -> bool {
    let file = folder.join(FILES[0]).display().to_string();
    found.warnings.iter().any(|warning| warning.contains(&file) && warning.contains(words))
}

/// Whether there is a file of which nobody says that everything was read.
fn is_kept_aside(folder: &Path) -> bool {
    let mut entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let is_unread = |name: &str| name.starts_with("damaged-") && !name.starts_with("damaged-salvaged-");
    entries.any(|name| is_unread(&name.to_string_lossy()))
}

fuzz_target!(|data: &[u8]| {
    let Sound { runtime, folder, files: sound } = sound();
    let mut files = sound.clone();
    data.chunks(5).take(64).for_each(|damage| spoil(&mut files, damage));
    // That the end of the log is gone is known from the counter alone.
    let is_counted = files[2] == sound[2];
    let changed = files.iter().zip(sound).map(|(now, sound)| {
        let bytes = now.iter().zip(sound).filter(|(now, sound)| now != sound).count();
        bytes + sound.len().abs_diff(now.len())
    });
    let changed: usize = changed.sum();
    fs::remove_dir_all(folder).expect("removed");
    fs::create_dir(folder).expect("made");
    for (name, bytes) in FILES.iter().zip(files) {
        fs::write(folder.join(name), bytes).expect("written");
    }
    runtime.block_on(async {
        let (mut journal, recovered) =
            JournalFolder::new(folder).open(BACKEND).await.expect("the folder opens");
        for save in &recovered.saves {
            assert!((1..=COMMITS).contains(&save.sequence), "{save:?}");
            assert_eq!(*save, record(save.sequence));
        }
        let lost = usize::try_from(PLAYERS).expect("small") - newest_in(&recovered);
        let told = is_told(&recovered, folder, "");
        assert!(lost == 0 || told || !is_counted, "{lost} saves are lost without a word: {recovered:?}");
        if changed <= 1 && is_counted {
            let whole = is_kept_aside(folder) || is_told(&recovered, folder, "commits are missing");
            assert!(lost <= 1 || whole, "one byte cost {lost} saves: {recovered:?}");
        }
        let changes = Changes { saves: vec![record(COMMITS + 1)], ..Changes::default() };
        journal.write(&changes).await.expect("saves go on");
        journal.close().await;
    });
});
