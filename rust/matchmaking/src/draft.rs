//! A match that is being formed.

use crate::pool::Pool;

/// The team of a member that has players in several: a running game.
pub(crate) const OWN_TEAMS: u16 = u16::MAX;

/// A player in a team.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub ticket: u32,
    pub player: u16,
}

/// A ticket in a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub ticket: u32,
    pub team: u16,
}

/// Tickets and their teams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub members: Vec<Member>,
    pub teams: Vec<Vec<Seat>>,
    pub players: u32,
    pub newest_ms: i64,
    pub oldest_ms: i64,
    pub backfill: Option<u32>,
}

impl Draft {
    pub fn new(teams: usize) -> Self {
        let mut draft = Self { teams: vec![Vec::new(); teams], ..Self::default() };
        draft.clear();
        draft
    }

    pub fn clear(&mut self) {
        self.members.clear();
        self.teams.iter_mut().for_each(Vec::clear);
        self.players = 0;
        self.newest_ms = i64::MIN;
        self.oldest_ms = i64::MAX;
        self.backfill = None;
    }

    pub fn add(&mut self, pool: &Pool, member: Member) {
        let entry = pool.entry(member.ticket);
        for (index, player) in entry.players.iter().enumerate() {
            let team = if member.team == OWN_TEAMS { player.team } else { member.team };
            self.teams[usize::from(team)].push(Seat { ticket: member.ticket, player: index as u16 });
        }
        self.players += entry.players.len() as u32;
        self.newest_ms = self.newest_ms.max(entry.created_at_ms);
        self.oldest_ms = self.oldest_ms.min(entry.created_at_ms);
        if entry.backfill {
            self.backfill = Some(member.ticket);
        }
        self.members.push(member);
    }

    /// Removes the member that was added last.
    pub fn remove_last(&mut self, pool: &Pool) {
        let Some(member) = self.members.pop() else { return };
        let entry = pool.entry(member.ticket);
        for player in &entry.players {
            let team = if member.team == OWN_TEAMS { player.team } else { member.team };
            self.teams[usize::from(team)].pop();
        }
        self.players -= entry.players.len() as u32;
        if entry.backfill {
            self.backfill = None;
        }
        let created = |member: &Member| pool.entry(member.ticket).created_at_ms;
        if entry.created_at_ms == self.newest_ms {
            self.newest_ms = self.members.iter().map(created).max().unwrap_or(i64::MIN);
        }
        if entry.created_at_ms == self.oldest_ms {
            self.oldest_ms = self.members.iter().map(created).min().unwrap_or(i64::MAX);
        }
    }

    /// Makes the draft one of these members.
    pub fn set(&mut self, pool: &Pool, members: &[Member]) {
        self.clear();
        for member in members {
            self.add(pool, *member);
        }
    }

    pub fn contains(&self, ticket: u32) -> bool {
        self.members.iter().any(|member| member.ticket == ticket)
    }
}
