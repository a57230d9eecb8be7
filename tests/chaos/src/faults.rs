//! What goes wrong in a trial, at its time.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::fault_proxy;

use crate::aftermath::Aftermath;
use crate::backups;
use crate::game_server::{GameServer, Stop};
use crate::plan::{Fault, NetworkFault, StopSignal, TimedFault};
use crate::volume::Volume;

/// How long a fault lies in wait for an acknowledgement.
const AMBUSH: Duration = Duration::from_secs(1);

/// How long a game saves at its pace before it is told to stop.
const WARM_UP: Duration = Duration::from_millis(150);

/// What faults act on.
pub struct Stage<'a> {
    /// All servers.
    pub servers: &'a [GameServer],
    /// Stops servers; knows the backends and the history.
    pub aftermath: &'a Aftermath<'a>,
    /// The volume of a server's journal, if it has one of its own.
    pub volume: Option<&'a Path>,
    /// When the players began.
    pub begin: Instant,
}

impl Stage<'_> {
    /// Waits for the fault's time and lets it happen, from its beginning to its end.
    pub fn strike(&self, timed: &TimedFault) -> Result<()> {
        let at = self.begin + Duration::from_millis(timed.at_ms);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let mut event = json!({ "event": "fault" });
        if let (Value::Object(event), Value::Object(fault)) = (&mut event, json!(timed)) {
            event.extend(fault);
        }
        self.aftermath.history.note(event);
        let struck = self.happen(&timed.fault)?;
        let past_lease = timed.fault.outlives_the_lease();
        self.aftermath.history.note(json!({
            "event": "fault_over", "at_ms": timed.at_ms, "name": timed.fault.name(), "past_lease": past_lease,
            "struck": struck,
        }));
        Ok(())
    }

    /// False when there was nothing to act on, such as a process that another fault has killed.
    fn happen(&self, fault: &Fault) -> Result<bool> {
        match *fault {
            Fault::Kill { server, restart_after_ms } => {
                let struck = self.servers[server].kill()?;
                // One that is being stopped is started again by whoever stops it.
                if struck {
                    self.restart(server, restart_after_ms)?;
                }
                Ok(struck)
            }
            Fault::KillOnAck { server, acks, restart_after_ms } => {
                let struck = self.servers[server].kill_after_acks(acks, AMBUSH)?;
                if struck {
                    self.restart(server, restart_after_ms)?;
                }
                Ok(struck)
            }
            Fault::Terminate { server, restart_after_ms } => self.stop(server, &Stop::TERM, restart_after_ms),
            Fault::Pause { server, for_ms } => {
                let struck = self.servers[server].pause()?;
                if struck {
                    thread::sleep(Duration::from_millis(for_ms));
                    self.servers[server].resume()?;
                }
                Ok(struck)
            }
            Fault::BackendKill { down_ms } => self.outage(down_ms, Backend::kill),
            Fault::BackendTerminate { down_ms } => self.outage(down_ms, Backend::stop),
            Fault::Network { server, ref kind, for_ms } => {
                let proxy = self.servers[server].proxy();
                let before = proxy.struck().total();
                proxy.set(proxy_fault(kind));
                self.servers[server].set_cut_off(fault.outlives_the_lease());
                thread::sleep(Duration::from_millis(for_ms));
                self.servers[server].set_cut_off(false);
                proxy.set(fault_proxy::Fault::None);
                // A server that said nothing meanwhile has noticed nothing.
                Ok(proxy.struck().total() > before)
            }
            Fault::FullVolume { server, room_kib, for_ms, restart } => {
                let Some(volume) = self.volume else { return Ok(false) };
                self.full_volume(server, volume, room_kib, Duration::from_millis(for_ms), restart)
            }
            Fault::Restore { cold_copy, after_ms, down_ms, again_ms } => self.restore(
                cold_copy,
                Duration::from_millis(after_ms),
                Duration::from_millis(down_ms),
                again_ms.map(Duration::from_millis),
            ),
            Fault::Leave { server, every_ms, delay_ms, restart_after_ms } => {
                let proxy = self.servers[server].proxy();
                let delay = Duration::from_millis(delay_ms);
                let told = self.servers[server].send(&json!({ "do": "keep_saving", "every_ms": every_ms }));
                thread::sleep(WARM_UP);
                proxy.set(fault_proxy::Fault::Delay(delay));
                thread::sleep(WARM_UP);
                let stop = Stop { healthy: true, ..Stop::TERM };
                let struck = self.aftermath.stop(&self.servers[server], &stop)?;
                proxy.set(fault_proxy::Fault::None);
                if struck {
                    self.restart(server, restart_after_ms)?;
                }
                Ok(told && struck)
            }
            Fault::StopUnlisted { server, after_ms } => {
                let proxy = self.servers[server].proxy();
                if !self.servers[server].kill()? {
                    return Ok(false);
                }
                proxy.set(fault_proxy::Fault::Refuse);
                self.servers[server].start()?;
                thread::sleep(Duration::from_millis(after_ms));
                let struck = self.aftermath.stop(&self.servers[server], &Stop::TERM)?;
                proxy.set(fault_proxy::Fault::None);
                self.servers[server].start()?;
                Ok(struck)
            }
            Fault::Signals { server, ref signals, gap_ms, restart_after_ms } => {
                let alike = signals.windows(2).all(|pair| pair[0] == pair[1]);
                let signals: Vec<Signal> = signals.iter().map(|signal| signal_of(*signal)).collect();
                let gap = Duration::from_millis(gap_ms);
                let stop = Stop { signals: &signals, gap, healthy: alike };
                self.stop(server, &stop, restart_after_ms)
            }
            Fault::ClosePipe { server, after_ms, restart_after_ms } => {
                let closed = self.servers[server].close_pipe()?;
                thread::sleep(Duration::from_millis(after_ms));
                let stop = Stop { healthy: true, ..Stop::TERM };
                Ok(self.stop(server, &stop, restart_after_ms)? && closed)
            }
        }
    }

    fn stop(&self, server: usize, stop: &Stop<'_>, restart_after_ms: u64) -> Result<bool> {
        let struck = self.aftermath.stop(&self.servers[server], stop)?;
        if struck {
            self.restart(server, restart_after_ms)?;
        }
        Ok(struck)
    }

    fn full_volume(
        &self,
        server: usize,
        volume: &Path,
        room_kib: u64,
        lasts: Duration,
        restart: bool,
    ) -> Result<bool> {
        let note = |event: &str| self.aftermath.history.note(json!({ "event": event, "server": server }));
        note("volume_full");
        Volume::fill(volume, room_kib)?;
        thread::sleep(lasts / 2);
        if restart {
            self.stop(server, &Stop::TERM, 0)?;
        }
        thread::sleep(lasts / 2);
        Volume::clear(volume)?;
        note("volume_room");
        Ok(true)
    }

    fn restore(
        &self,
        cold_copy: bool,
        after: Duration,
        down: Duration,
        again: Option<Duration>,
    ) -> Result<bool> {
        let home = self.aftermath.homes.first().context("no backend")?;
        let copy = {
            let mut backend = home.backend();
            backups::take(&mut backend, &home.truth, self.aftermath.folder, cold_copy)?
        };
        self.aftermath.history.note(json!({ "event": "copied" }));
        thread::sleep(after);
        let Aftermath { players, history, .. } = *self.aftermath;
        backups::restore(&copy, &mut home.backend(), &home.truth, players, down, history)?;
        if let Some(again) = again {
            thread::sleep(again);
            backups::restore(&copy, &mut home.backend(), &home.truth, players, down, history)?;
        }
        copy.discard(&home.backend().database_url())?;
        Ok(true)
    }

    fn restart(&self, server: usize, after_ms: u64) -> Result<()> {
        thread::sleep(Duration::from_millis(after_ms));
        self.servers[server].start()
    }

    fn outage(&self, down_ms: u64, end: impl Fn(&mut Backend) -> Result<()>) -> Result<bool> {
        let mut backend = self.aftermath.homes.first().context("no backend")?.backend();
        end(&mut backend)?;
        thread::sleep(Duration::from_millis(down_ms));
        backend.resume()?;
        Ok(true)
    }
}

const fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Hup => Signal::HUP,
    }
}

fn proxy_fault(kind: &NetworkFault) -> fault_proxy::Fault {
    match kind {
        NetworkFault::Refuse => fault_proxy::Fault::Refuse,
        NetworkFault::Blackhole => fault_proxy::Fault::Blackhole,
        NetworkFault::Reset => fault_proxy::Fault::Reset,
        NetworkFault::Delay { pause_ms } => fault_proxy::Fault::Delay(Duration::from_millis(*pause_ms)),
        NetworkFault::DropReply { path } => fault_proxy::Fault::DropReply { path: path.clone() },
        NetworkFault::Duplicate { path } => fault_proxy::Fault::DuplicateRequest { path: path.clone() },
        NetworkFault::Truncate { path } => fault_proxy::Fault::TruncateReply { path: path.clone() },
        NetworkFault::HangUp { path } => fault_proxy::Fault::HangUp { path: path.clone() },
    }
}
