//! The players of a trial: each follows a script, and turns to another server when the one they are on is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::game_server::{GameServer, Reach};
use crate::plan::{Save, Script, Session, SessionEnd, WhenLost};

/// Longest time a server tries to get a player: past the lease of a holder that is silent.
pub const JOIN_MS: u64 = 4_000;
/// How long a server may take to let a player go.
pub const LEAVE_MS: u64 = 1_500;
/// What the answer to a command may take on top of the time it was given.
pub const SLACK: Duration = Duration::from_secs(3);
/// How long a player waits for a server to come back.
const RETURN: Duration = Duration::from_secs(2);
/// Attempts to get on some server before the rest of a session is given up.
const ATTEMPTS: usize = 3;

/// One player at play.
pub struct Player<'a> {
    /// The account.
    pub id: &'a str,
    /// All servers.
    pub servers: &'a [GameServer],
    /// Which of them are of the backend that has the account.
    pub own: &'a [usize],
    /// Requests for the player come once more after each leave.
    pub late_loads: bool,
    /// The run is being ended.
    pub stop: &'a AtomicBool,
}

/// Where a player is: a server, and which of its incarnations let them in.
type Place = (usize, u32);

impl Player<'_> {
    /// Follows `script`. Returns the server the player was on last, if any.
    pub fn play(&self, script: &Script) -> Option<usize> {
        let mut before: Option<(Place, &Session)> = None;
        let mut last = None;
        for session in &script.sessions {
            let place = thread::scope(|scope| {
                if let Some((place, former)) = before.take() {
                    scope.spawn(move || self.save_late(place, &former.late_saves));
                }
                self.join(session.server, session.when_lost)
            });
            let Some(place) = place else { continue };
            let place = self.stay(place, session);
            last = place.map(|(server, _)| server);
            before = place.map(|place| (place, session));
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        last
    }

    /// The saves of one session; returns where the player was at its end.
    fn stay(&self, mut place: Place, session: &Session) -> Option<Place> {
        thread::scope(|scope| {
            for save in &session.saves {
                thread::sleep(Duration::from_millis(save.after_ms));
                let (server, incarnation) = place;
                let reach = self.servers[server].reach();
                let cut_off = session.when_lost == WhenLost::Move && self.servers[server].is_cut_off();
                if reach == Reach::Paused || (reach == Reach::Up(incarnation) && cut_off) {
                    // What a player does last before turning away; a frozen server finds it when it wakes up.
                    self.save(server, save);
                }
                if reach != Reach::Up(incarnation) || cut_off {
                    place = match session.when_lost {
                        WhenLost::Wait => self.join(server, WhenLost::Wait)?,
                        WhenLost::Move => self.join(self.next(server), WhenLost::Move)?,
                    };
                    continue;
                }
                self.save(server, save);
                if save.reconnect {
                    let command = json!({ "do": "join", "player": self.id, "within_ms": JOIN_MS });
                    let server = &self.servers[server];
                    scope.spawn(move || server.ask(command, Duration::from_millis(JOIN_MS) + SLACK));
                }
            }
            if session.end == SessionEnd::Leave {
                self.leave(place.0);
            }
            Some(place)
        })
    }

    /// Gets on `server`, or on one of the others; returns where.
    fn join(&self, server: usize, when_lost: WhenLost) -> Option<Place> {
        let mut server = server;
        for _ in 0..ATTEMPTS {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let timeout = if when_lost == WhenLost::Wait { RETURN } else { Duration::ZERO };
            self.servers[server].wait_until(timeout, |reach| matches!(reach, Reach::Up(_)));
            if let Reach::Up(incarnation) = self.servers[server].reach() {
                let command = json!({ "do": "join", "player": self.id, "within_ms": JOIN_MS });
                let timeout = Duration::from_millis(JOIN_MS) + SLACK;
                let begin = Instant::now();
                let answer = self.servers[server].ask(command, timeout);
                if answer.is_some_and(|answer| answer["event"] == "loaded") {
                    return Some((server, incarnation));
                }
                // Whoever was refused at once does not knock again in the same moment.
                thread::sleep(Duration::from_millis(50).saturating_sub(begin.elapsed()));
            }
            server = self.next(server);
        }
        None
    }

    /// Leaves in good order; whether that went well is in the history.
    fn leave(&self, server: usize) {
        let command = json!({ "do": "leave", "player": self.id, "within_ms": LEAVE_MS });
        let server = &self.servers[server];
        server.ask(command, Duration::from_millis(LEAVE_MS) + SLACK);
        if self.late_loads {
            // Whether the backend is there to execute it is a matter of luck.
            let _executed = server.proxy().repeat_remembered(Some(self.id));
        }
    }

    fn save(&self, server: usize, save: &Save) {
        self.servers[server].send(&json!({
            "do": "save", "player": self.id, "key": save.key, "op": save.op, "pad": save.pad, "patch": save.patch,
        }));
    }

    /// Saves of a server that has not noticed yet that its player is gone.
    fn save_late(&self, (server, incarnation): Place, saves: &[Save]) {
        for save in saves {
            thread::sleep(Duration::from_millis(save.after_ms));
            if self.servers[server].reach() == Reach::Up(incarnation) {
                self.save(server, save);
            }
        }
    }

    fn next(&self, server: usize) -> usize {
        let position = self.own.iter().position(|own| *own == server).map_or(0, |position| position + 1);
        self.own.get(position % self.own.len().max(1)).copied().unwrap_or(server)
    }
}
