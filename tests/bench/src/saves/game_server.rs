//! A game server in a process of its own, built on the client crate as the addon is: at SIGTERM, its game hands in a changed
//! document of every player, and the product's own shutdown does the rest.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use backend_client::platform::clock::SystemClock;
use backend_client::player_store::PlayerStore;
use backend_client::registration::Registration;
use backend_client::shutdown::{Participants, Phase, Shutdown, Store, Summary};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};

use super::game::{Game, NEVER, Place, document};

#[derive(Args)]
pub struct Options {
    /// Base URL of the backend
    #[arg(long)]
    url: String,
    /// File with its server key
    #[arg(long)]
    key_file: PathBuf,
    /// Folder of the journal
    #[arg(long)]
    journal: PathBuf,
    /// File with the ids of the players, one per line
    #[arg(long)]
    players: PathBuf,
    /// Number of the document that they all change to
    #[arg(long)]
    number: u64,
    /// Time from SIGTERM to the end
    #[arg(long)]
    grace_ms: u64,
}

/// What happened, for the process that measures. Times are nanoseconds of the clock that both share.
pub mod line {
    /// Everybody is in.
    pub const READY: &str = "ready";
    /// The game has handed everything in; with the nanoseconds that its main thread needed.
    pub const HANDED_IN: &str = "handed_in ";
    /// Everything is durable on local disk; with the time.
    pub const LOCAL: &str = "local ";
    /// Sending is over; with the time.
    pub const SENT: &str = "sent ";
}

/// Nanoseconds of the clock that all processes of the machine share.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The process itself: its exit code is the product's.
pub fn main(options: &Options) -> ExitCode {
    run(options).unwrap_or_else(|error| {
        eprintln!("game-server: {error:#}");
        ExitCode::from(2)
    })
}

/// Runs until SIGTERM.
fn run(options: &Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ids = std::fs::read_to_string(&options.players)?.lines().map(str::to_owned).collect();
    let place = Place { url: options.url.clone(), key_file: options.key_file.clone() };
    let mut game = runtime.block_on(async {
        let (mut game, _events) = Game::start(&place, &options.journal, NEVER).await?;
        game.admit(ids).await?;
        anyhow::Ok(game)
    })?;
    let (phases, on_main_thread) = channel();
    let crew = Arc::new(Crew { store: game.store.clone(), registration: game.registration.clone() });
    let on_phase = Arc::new(move |phase| note(&phases, phase));
    let exit = Arc::new(|code, summary: &Summary| {
        println!("{summary}");
        std::process::exit(code);
    });
    let shutdown = Shutdown::new(Arc::new(SystemClock), crew, on_phase, exit);
    let (at_sigterm, grace) = (shutdown.clone(), Duration::from_millis(options.grace_ms));
    let mut terminate = {
        let _on_the_runtime = runtime.enter();
        signal(SignalKind::terminate())?
    };
    runtime.spawn(async move {
        terminate.recv().await;
        at_sigterm.request("SIGTERM", grace);
    });
    // A game does this in its frames.
    let changed = game.players.iter().map(|_| document(options.number)).collect::<Result<Vec<_>>>()?;
    let changed: Vec<_> = std::mem::take(&mut game.players).into_iter().zip(changed).collect();
    println!("{}", line::READY);
    hand_in(changed, &game.store, &shutdown, &on_main_thread)
}

/// The main thread: hands the changed documents in when it is asked, and leaves when all is done.
fn hand_in(
    changed: Vec<(String, backend_client::player_store::Content)>,
    store: &PlayerStore,
    shutdown: &Shutdown,
    phases: &std::sync::mpsc::Receiver<Phase>,
) -> Result<ExitCode> {
    let mut changed = Some(changed);
    for phase in phases {
        match phase {
            Phase::Collecting => {
                let begin = monotonic();
                for (player, content) in changed.take().unwrap_or_default() {
                    store.save(&player, "progress", content)?;
                }
                println!("{}{}", line::HANDED_IN, monotonic() - begin);
                shutdown.collected();
            }
            Phase::Completed(summary) => {
                shutdown.leaving();
                println!("{summary}");
                return Ok(ExitCode::from(u8::try_from(summary.exit_code())?));
            }
            _ => {}
        }
    }
    Err(anyhow!("the shutdown is gone"))
}

fn note(main_thread: &Sender<Phase>, phase: Phase) {
    match phase {
        Phase::Sending => println!("{}{}", line::LOCAL, monotonic()),
        Phase::Releasing => println!("{}{}", line::SENT, monotonic()),
        _ => {}
    }
    // It may have left.
    let _nobody_listens = main_thread.send(phase);
}

/// What has to be brought in order.
struct Crew {
    store: PlayerStore,
    registration: Registration,
}

#[async_trait]
impl Participants for Crew {
    fn drain(&self) {
        self.registration.set_draining(true);
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        vec![Arc::new(self.store.clone())]
    }

    async fn deregister(&self) -> bool {
        self.registration.deregister().await.is_ok()
    }
}
