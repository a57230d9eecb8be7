//! Files that are not what was written: whose they are, what can be saved of them, and where they go.
//!
//! Only a server of its own backend takes a damaged file away, once the saves in it that can still be read are in its own
//! journal. The file of another backend stays where it is. Whose it is, is known
//!
//! 1. from its ownership, if that is proven by its checksum, or would be if it named us;
//! 2. from its rows: each has a checksum over the backend, and all rows of a file are of one backend;
//! 3. if there is no row, from the name in an ownership that is not proven;
//! 4. otherwise it has rows that are none of ours, and is taken for another one's.
//!
//! Where there is neither an ownership nor a row that can be read, nobody will ever know. Such a file is kept aside by whoever
//! meets it first: nobody loses a save that could be sent, and a person learns of it.
//!
//! What is kept aside and was not read as a whole may have saves that were acknowledged: a server that is not listed counts it
//! as unsent, until somebody has looked at it. Nothing is sent from it by itself: by then the backend may have forgotten what it
//! has of these saves.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::commit_counter::counter_path;
use super::file::{JournalFile, close, connect, from_sqlx, with_ending};
use super::format::{self, Found};
use super::ownership::{FoundOwnership, format_of_tables};
use super::{Changes, JournalError, Record, Recovered};
use crate::platform::database_check::{damage, schema_damage};
use crate::platform::private_files::sync_folder;

/// Begins the names of files that are kept aside.
const ASIDE: &str = "damaged-";
/// Begins those of which every row was read, and taken if it was sound, by a server of their own backend.
const SALVAGED: &str = "damaged-salvaged-";

/// What can still be read.
struct Remains {
    /// The format of the tables.
    format: i64,
    ownership: Option<FoundOwnership>,
    rows: Vec<Found>,
    /// All rows that were ever written are among these.
    is_complete: bool,
}

/// Whose a damaged file is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// This backend's, or nobody's: then it is whoever's comes first.
    Us,
    /// Another backend's, by its name if that can be read.
    Another(String),
    /// Nothing in it says so.
    Unknown,
}

impl Remains {
    const fn unreadable() -> Self {
        Self { format: 0, ownership: None, rows: Vec::new(), is_complete: false }
    }

    /// Reads on past whatever is damaged.
    async fn read(path: &Path) -> Result<Self, JournalError> {
        let (mut connection, _format) = connect(path).await?;
        let read = async {
            let connection = &mut connection;
            // sqlx does not get over one that is not text.
            if schema_damage(connection).await?.is_some() {
                return Ok(Self::unreadable());
            }
            let format = format_of_tables(connection).await?;
            let ownership = match format {
                0 | 1 => None,
                // One that cannot be read proves nothing.
                _ => FoundOwnership::read(connection, format).await.ok().flatten(),
            };
            let (rows, unread) = format::rows(connection, format).await;
            // Pages that are not what was written may hide rows without an error, and rows without checksums prove nothing.
            let is_whole = damage(connection).await?.is_none() && (format > 1 || rows.is_empty());
            Ok(Self { format, ownership, rows, is_complete: unread.is_none() && is_whole })
        };
        let read = read.await;
        close(connection, path).await;
        read.map_err(|error| from_sqlx(path, &error))
    }

    fn owner(&self, backend: Option<&str>) -> Owner {
        let named = self.ownership.as_ref().map(FoundOwnership::backend);
        // What nobody claims is whoever's comes first.
        let is_ours = |named: Option<&[u8]>| named.is_none() || named == backend.map(str::as_bytes);
        let another = || {
            let name = named.flatten().map(|name| String::from_utf8_lossy(name).into_owned());
            Owner::Another(name.unwrap_or_else(|| "its name cannot be read".to_owned()))
        };
        let is_named_ours = named.is_some_and(is_ours);
        if let Some(ownership) = &self.ownership {
            if ownership.is_proven() {
                return if is_named_ours { Owner::Us } else { another() };
            }
            if ownership.is_sound_for(backend.map(str::as_bytes)) {
                return Owner::Us;
            }
        }
        if self.format == 1 || self.rows.iter().any(|row| is_saved_for(row, backend)) {
            return Owner::Us;
        }
        match &self.ownership {
            None if self.rows.is_empty() => Owner::Unknown,
            Some(_) if self.rows.is_empty() && is_named_ours => Owner::Us,
            _ => another(),
        }
    }

    /// The saves for `backend`, each of them exactly as it was written. Without checksums nobody can tell.
    fn saves(self, backend: Option<&str>) -> Vec<Record> {
        let Self { format, rows, .. } = self;
        if format < 2 {
            return Vec::new();
        }
        rows.into_iter()
            .filter(|row| is_saved_for(row, backend))
            .filter_map(|row| {
                let backend = backend.filter(|backend| row.is_sound_for(Some(backend)));
                row.record(format, backend)
            })
            .collect()
    }

    /// How many saves there are that may be sent one day, for whichever backend.
    fn count(&self) -> usize {
        let named = self
            .ownership
            .as_ref()
            .and_then(FoundOwnership::backend)
            .and_then(|name| str::from_utf8(name).ok());
        let counts = |row: &&Found| named.is_none() || is_saved_for(row, named);
        self.rows.iter().filter(counts).count()
    }
}

fn is_saved_for(row: &Found, backend: Option<&str>) -> bool {
    row.is_sound_for(backend) || row.is_sound_for(None)
}

/// Takes what can still be read of a damaged file, and gives the file another name; both only if it is not another
/// backend's.
pub async fn keep_aside(
    path: &Path,
    why: &str,
    own: &mut JournalFile,
    backend: Option<&str>,
    recovered: &mut Recovered,
) -> Result<(), JournalError> {
    let remains = match Remains::read(path).await {
        Ok(remains) => remains,
        Err(JournalError::InUse(_)) => return Ok(()),
        // Not even its first page can be read.
        Err(_) => Remains::unreadable(),
    };
    let place = path.display();
    let why = why.strip_prefix(&format!("{place}: ")).unwrap_or(why);
    let (name, more) = match remains.owner(backend) {
        // A row that is not what was written was a save that somebody may have acknowledged.
        Owner::Us if remains.is_complete && remains.rows.iter().all(|row| is_saved_for(row, backend)) => {
            (SALVAGED, "")
        }
        Owner::Us => (ASIDE, ", others cannot be read"),
        Owner::Unknown => (ASIDE, ", nothing in it says for which backend it is"),
        Owner::Another(other) => {
            recovered.warn(format!(
                "{place} is damaged ({why}) and has saves for another backend ({other}): it stays as it is, for a server of \
                 that one"
            ));
            return Ok(());
        }
    };
    let saves = remains.saves(backend);
    own.write(&Changes { saves: saves.clone(), ..Changes::default() }).await?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}{}-{file}", uuid::Uuid::now_v7().simple()));
    let kept = match rename(path, &aside) {
        Ok(()) => format!("the file is kept as {}", aside.display()),
        Err(error) => format!("the file cannot be renamed ({error}) and is left alone"),
    };
    recovered.warn(format!(
        "{place} is damaged ({why}): {} saves in it could be read and are sent{more}, {kept}",
        saves.len()
    ));
    recovered.saves.extend(saves);
    Ok(())
}

/// Files of `folder` that were kept aside, and that nobody took everything from.
fn kept_aside(folder: &Path) -> Vec<PathBuf> {
    let names =
        fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.file_name());
    let is_kept = |name: &str| {
        name.starts_with(ASIDE)
            && !name.starts_with(SALVAGED)
            && Path::new(name).extension().is_some_and(|ending| ending == "db")
    };
    names.filter(|name| name.to_str().is_some_and(is_kept)).map(|name| folder.join(name)).collect()
}

/// How many saves of a damaged file may be unsent: unknown is not nothing.
pub async fn count(path: &Path) -> usize {
    Remains::read(path).await.map_or(1, |remains| remains.count().max(1))
}

/// How many saves may be unsent in the files of `folder` that were kept aside.
pub async fn count_aside(folder: &Path) -> usize {
    let mut sum = 0;
    for path in kept_aside(folder) {
        sum += count(&path).await;
    }
    sum
}

/// Gives a file another name, and those that belong to it.
fn rename(path: &Path, aside: &Path) -> std::io::Result<()> {
    fs::rename(path, aside)?;
    for (from, to) in
        [(with_ending(path, "-wal"), with_ending(aside, "-wal")), (counter_path(path), counter_path(aside))]
    {
        match fs::rename(from, to) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    path.parent().map_or(Ok(()), sync_folder)
}
