//! What the writer tells the orchestrator, one line each on its standard output, and how both name a document's content.

use std::fmt::{self, Display, Write as _};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use aws_lc_rs::digest::{SHA256, digest};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value};

/// A document under an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Whose document.
    pub player: String,
    /// Name of the document.
    pub key: String,
    /// Epoch of the lease.
    pub epoch: i64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The journal is about to be opened.
    Opening,
    /// A content is about to be handed in. `number` counts the contents of the document and is in the content.
    Try {
        /// Which document.
        name: Name,
        /// Number of the content.
        number: u64,
        /// [`hash`] of the content.
        hash: String,
    },
    /// A content is acknowledged locally: it has to survive anything from now on.
    Acknowledged {
        /// [`monotonic`] time of the acknowledgement.
        at: u64,
        /// Which document.
        name: Name,
        /// Its number within the epoch.
        sequence: i64,
        /// Number of the content.
        number: u64,
    },
    /// The backend has this and everything before it: the journal may forget it.
    Settled {
        /// Which document.
        name: Name,
        /// The largest sequence it has.
        sequence: i64,
    },
}

impl Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.player, self.key, self.epoch)
    }
}

impl Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => write!(formatter, "opening"),
            Self::Try { name, number, hash } => write!(formatter, "try {name} {number} {hash}"),
            Self::Acknowledged { at, name, sequence, number } => {
                write!(formatter, "ack {at} {name} {sequence} {number}")
            }
            Self::Settled { name, sequence } => write!(formatter, "settled {name} {sequence}"),
        }
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let parsed = match words.next() {
            Some("opening") => Self::Opening,
            Some("try") => {
                Self::Try { name: name(&mut words)?, number: word(&mut words)?, hash: word(&mut words)? }
            }
            Some("ack") => Self::Acknowledged {
                at: word(&mut words)?,
                name: name(&mut words)?,
                sequence: word(&mut words)?,
                number: word(&mut words)?,
            },
            Some("settled") => Self::Settled { name: name(&mut words)?, sequence: word(&mut words)? },
            _ => bail!("not a line of the writer: {line:?}"),
        };
        if words.next().is_some() {
            bail!("a line too long: {line:?}");
        }
        Ok(parsed)
    }
}

fn name<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Name> {
    Ok(Name { player: word(words)?, key: word(words)?, epoch: word(words)? })
}

fn word<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Result<T> {
    let word = words.next().context("a line too short")?;
    word.parse().map_err(|_| anyhow!("{word:?} is not what belongs there"))
}

/// Nanoseconds of the clock that all processes of the machine share.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The world whose chunks are saved.
pub const WORLD: &str = "overworld";

/// A chunk, named as documents are. Its numbers go on through all epochs: no two processes write the same chunks.
pub fn chunk_name(chunk: &str) -> Name {
    Name { player: WORLD.to_owned(), key: chunk.to_owned(), epoch: 0 }
}

/// Number of a content. One without number has number 0, which nobody writes.
pub fn number_of(content: &Map<String, Value>) -> u64 {
    content.get("number").and_then(Value::as_u64).unwrap_or(0)
}

/// Names a content: equal only for equal bytes of JSON.
pub fn hash(content: &Map<String, Value>) -> Result<String> {
    let bytes = serde_json::to_vec(content)?;
    let mut text = String::with_capacity(32);
    for byte in &digest(&SHA256, &bytes).as_ref()[..16] {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
