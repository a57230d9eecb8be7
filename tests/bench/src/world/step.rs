//! One step: a server that takes the world, does something to all of it, and lets it go.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use backend_client::api::transport::{HttpReply, HttpRequest, HttpTransport, Transport, TransportError};
use backend_client::platform::clock::SystemClock;
use backend_client::registration::{Registration, ServerDescription};
use backend_client::world_store::{Setup, WorldStore};
use backend_client::{Backend as _, Config, HttpBackend, ServerKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{CHUNK_KIB, Options};

/// Longest time anything takes that has to succeed.
const WAIT_TIMEOUT: Duration = Duration::from_secs(900);
/// Changes that wait for the local disk, and reads on their way, at a time.
const AT_ONCE: usize = 64;
/// Every how many chunks one is changed.
const CHANGED: u32 = 100;

/// What is done.
#[derive(Clone, Copy, clap::Subcommand)]
pub enum Step {
    /// Saves every chunk
    Save,
    /// Saves every chunk again, of which one in a hundred has changed
    Change,
    /// Reads every chunk
    Read,
}

/// Does a step, and prints its figures.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    test_harness::print_line!("{}", runtime.block_on(options.step.measure(options))?);
    Ok(())
}

impl Step {
    /// Its word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Change => "change",
            Self::Read => "read",
        }
    }

    async fn measure(self, options: &Options) -> Result<Value> {
        let sent = Arc::new(Counting::new()?);
        let begin = Instant::now();
        let store = open(&options.folder, &sent).await?;
        let opened = begin.elapsed();
        let begin = Instant::now();
        match self {
            Self::Save => save(&store, options, |_| 0).await?,
            Self::Change => save(&store, options, |index| u32::from(index % CHANGED == 0)).await?,
            Self::Read => read(&store, options).await?,
        }
        ensure!(store.flush_local(WAIT_TIMEOUT).await == 0, "not durable");
        let done_here = begin.elapsed();
        let flushed = store.flush(WAIT_TIMEOUT).await;
        ensure!(flushed.unsaved == 0, "{flushed:?}");
        let done = begin.elapsed();
        store.close(WAIT_TIMEOUT).await;
        Ok(json!({
            "open_seconds": opened.as_secs_f64(),
            "local_seconds": done_here.as_secs_f64(),
            "seconds": done.as_secs_f64(),
            "sent_bytes": sent.bytes.load(Ordering::Relaxed),
            "peak_kib": peak_kib(std::process::id())?,
        }))
    }
}

async fn open(folder: &Path, transport: &Arc<Counting>) -> Result<WorldStore> {
    let clock = Arc::new(SystemClock);
    let key = ServerKey::read(Path::new(&std::env::var("BACKEND_SERVER_KEY_FILE")?))?;
    let backend = Arc::new(HttpBackend::new(config()?, transport.clone(), clock.clone())?);
    let registration = Registration::new(backend.clone(), clock.clone(), key, WAIT_TIMEOUT, Arc::new(|_| {}));
    registration.register(description()).await?;
    let setup = Setup {
        backend: backend.worlds().context("no worlds")?,
        clock,
        registration,
        folder: folder.to_owned(),
        former_folders: Vec::new(),
        delay: Duration::from_secs(1),
        on_event: Arc::new(|_| {}),
    };
    Ok(WorldStore::open(setup, "overworld", WAIT_TIMEOUT).await?)
}

async fn save(store: &WorldStore, options: &Options, generation: impl Fn(u32) -> u32) -> Result<()> {
    let mut waiting = JoinSet::new();
    for index in 0..options.chunks {
        if waiting.len() >= AT_ONCE {
            waiting.join_next().await.context("nothing waits")???;
        }
        let data = content(index, generation(index), CHUNK_KIB);
        waiting.spawn(store.put(&name(index), data)?.done());
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    Ok(())
}

/// Reads everything and compares it with what [`Step::Change`] left.
async fn read(store: &WorldStore, options: &Options) -> Result<()> {
    ensure!(store.names().len() == options.chunks as usize, "chunks are missing");
    let mut reading = JoinSet::new();
    let checked =
        |read: Option<Result<Result<()>, tokio::task::JoinError>>| read.context("nothing is read")??;
    for index in 0..options.chunks {
        if reading.len() >= AT_ONCE {
            checked(reading.join_next().await)?;
        }
        let (store, kib) = (store.clone(), CHUNK_KIB);
        reading.spawn(async move {
            let chunk = store.get(&name(index)).await?;
            ensure!(*chunk.data == content(index, u32::from(index % CHANGED == 0), kib), "chunk {index}");
            Ok(())
        });
    }
    while !reading.is_empty() {
        checked(reading.join_next().await)?;
    }
    Ok(())
}

fn name(index: u32) -> String {
    format!("terrain/{},{}", index / 64, index % 64)
}

/// Half noise, half a pattern, different for each chunk and generation.
fn content(index: u32, generation: u32, kib: usize) -> Vec<u8> {
    let mut bytes = vec![0; kib * 1024];
    let (noise, pattern) = bytes.split_at_mut(kib * 512);
    StdRng::seed_from_u64(u64::from(generation) << 32 | u64::from(index)).fill_bytes(noise);
    for (at, byte) in pattern.iter_mut().enumerate() {
        *byte = (at / 97) as u8;
    }
    bytes
}

/// The most memory a process has had, in KiB.
pub fn peak_kib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Counts what is sent.
struct Counting {
    inner: HttpTransport,
    bytes: AtomicU64,
}

impl Counting {
    fn new() -> Result<Self> {
        Ok(Self { inner: HttpTransport::new(&config()?)?, bytes: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Transport for Counting {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let bytes = request.body.as_ref().map_or(0, Vec::len) as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.inner.send(request).await
    }
}

fn config() -> Result<Config> {
    Ok(Config { base_url: std::env::var("BACKEND_URL")?, ..Config::default() })
}

fn description() -> ServerDescription {
    ServerDescription {
        name: "Bench".into(),
        address: "127.0.0.1".into(),
        port: 9,
        max_players: 1,
        ..ServerDescription::default()
    }
}
