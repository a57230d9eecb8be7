//! Matches of up to 40 players: built around one ticket, candidate by candidate, with every rule evaluated.

use crate::draft::{Draft, Member, OWN_TEAMS};
use crate::evaluate::{Evaluation, RuleMetric};
use crate::pool::Pool;
use crate::rule_set::{RuleSet, Stage};

/// Rounds in which members change places so that rules hold.
const MAX_REPAIRS: usize = 16;
/// Candidates that take the place of a member.
const MAX_REPLACEMENTS: usize = 16;
/// Work of filling up a match that could be started as it is, per team.
const EXTENSION_WORK: u64 = 64;

/// The search for matches.
pub(crate) struct Search<'a> {
    pub pool: &'a Pool,
    pub rule_set: &'a RuleSet,
    pub now_ms: i64,
    pub metrics: &'a mut [RuleMetric],
    /// What was done: candidates tried and rules of whole matches evaluated.
    pub work: u64,
    /// Rules that are tried with each candidate, as more players do not mend them.
    finals: Vec<usize>,
    /// Rules that are tried once each team has enough players.
    deferred: Vec<usize>,
    pub draft: Draft,
    /// The most players that each team ever has.
    most: Vec<usize>,
    limit: u64,
}

impl<'a> Search<'a> {
    pub fn new(pool: &'a Pool, now_ms: i64, metrics: &'a mut [RuleMetric]) -> Self {
        let rule_set: &RuleSet = &pool.rule_set;
        let of_kind = |is_final: bool| {
            (0..rule_set.rules.len())
                .filter(|index| {
                    let rule = &rule_set.rules[*index];
                    rule.is_condition() && !rule.part_of_compound && rule.final_when_violated == is_final
                })
                .collect()
        };
        Self {
            pool,
            rule_set,
            now_ms,
            metrics,
            work: 0,
            finals: of_kind(true),
            deferred: of_kind(false),
            draft: Draft::new(rule_set.teams.len()),
            most: (0..rule_set.teams.len())
                .map(|team| {
                    rule_set.stages.iter().map(|stage| stage.teams[team].max as usize).max().unwrap_or(0)
                })
                .collect(),
            limit: 0,
        }
    }

    /// Looks for a match of the anchor and candidates, tried in their order, with at most `work`. The match is the draft.
    pub fn around(&mut self, anchor: u32, candidates: &[u32], work: u64) -> bool {
        self.draft.clear();
        self.limit = self.work + work;
        let mut players_from = vec![0_u32; candidates.len() + 1];
        for (index, candidate) in candidates.iter().enumerate().rev() {
            let entry = self.pool.entry(*candidate);
            let count = if entry.backfill { 0 } else { entry.players.len() as u32 };
            players_from[index] = players_from[index + 1] + count;
        }
        let any_backfill = candidates.iter().any(|candidate| self.pool.entry(*candidate).backfill);
        let from = if any_backfill { None } else { Some(players_from.as_slice()) };
        for team in self.teams_for(anchor) {
            if self.try_add(Member { ticket: anchor, team }) {
                if self.fill(candidates, from) {
                    return true;
                }
                self.draft.clear();
            }
        }
        false
    }

    pub fn stage_index(&self) -> usize {
        let since =
            if self.rule_set.algorithm.oldest_expands { self.draft.oldest_ms } else { self.draft.newest_ms };
        self.rule_set.stage_at(self.now_ms.saturating_sub(since))
    }

    fn stage(&self) -> &'a Stage {
        &self.rule_set.stages[self.stage_index()]
    }

    /// The teams that a ticket may be added to, the one that needs players most first.
    fn teams_for(&self, ticket: u32) -> Vec<u16> {
        if self.pool.entry(ticket).backfill {
            return vec![OWN_TEAMS];
        }
        let stage = self.stage();
        let mut teams: Vec<u16> = (0..self.rule_set.teams.len() as u16).collect();
        // Of several empty copies of a team, one is enough.
        teams.dedup_by(|later, earlier| {
            let (one, other) = (usize::from(*earlier), usize::from(*later));
            self.draft.teams[one].is_empty()
                && self.draft.teams[other].is_empty()
                && self.rule_set.teams[one].base_name == self.rule_set.teams[other].base_name
        });
        teams.sort_by_key(|team| {
            let size = self.draft.teams[usize::from(*team)].len();
            (size >= stage.teams[usize::from(*team)].min as usize, size)
        });
        teams
    }

    /// Whether a team has places for a ticket. Cheaper than to try it, and no work.
    fn has_places(&self, ticket: u32) -> bool {
        let entry = self.pool.entry(ticket);
        let mut teams = self.draft.teams.iter().zip(&self.most);
        entry.backfill || teams.any(|(team, most)| team.len() + entry.players.len() <= *most)
    }

    /// Adds a ticket, and takes it back if it violates a rule for good.
    fn try_add(&mut self, member: Member) -> bool {
        self.work += 1;
        let entry = self.pool.entry(member.ticket);
        if entry.backfill && self.draft.backfill.is_some() {
            return false;
        }
        if member.team != OWN_TEAMS {
            let team = usize::from(member.team);
            if self.draft.teams[team].len() + entry.players.len() > self.most[team] {
                return false;
            }
        }
        self.draft.add(self.pool, member);
        if self.sizes_fit() && self.finals_hold() {
            return true;
        }
        self.draft.remove_last(self.pool);
        false
    }

    fn sizes_fit(&self) -> bool {
        let stage = self.stage();
        self.draft.teams.iter().zip(&stage.teams).all(|(team, size)| team.len() <= size.max as usize)
    }

    fn finals_hold(&mut self) -> bool {
        let evaluation = Evaluation {
            rule_set: self.rule_set,
            pool: self.pool,
            draft: &self.draft,
            stage: self.stage_index(),
        };
        self.finals.iter().all(|index| evaluation.violation(*index, self.metrics) == 0.0)
    }

    /// How much the deferred rules are violated: 0 where all hold.
    fn violation(&mut self) -> f64 {
        if self.deferred.is_empty() {
            return 0.0;
        }
        self.work += 1;
        let evaluation = Evaluation {
            rule_set: self.rule_set,
            pool: self.pool,
            draft: &self.draft,
            stage: self.stage_index(),
        };
        let of_rule = |index: &usize| {
            let violation = evaluation.violation(*index, self.metrics);
            // Rules count in different units; each counts less than 1.
            violation / (1.0 + violation) + f64::from(u8::from(violation > 0.0)) * f64::EPSILON
        };
        self.deferred.iter().map(of_rule).sum()
    }

    /// Whether each team has enough players, and there is something new.
    fn is_complete(&self) -> bool {
        let stage = self.stage();
        let enough =
            self.draft.teams.iter().zip(&stage.teams).all(|(team, size)| team.len() >= size.min as usize);
        enough && self.draft.members.iter().any(|member| member.team != OWN_TEAMS)
    }

    /// Adds a ticket to the team where the deferred rules are violated least.
    fn place(&mut self, ticket: u32) -> bool {
        if !self.has_places(ticket) {
            return false;
        }
        let teams = self.teams_for(ticket);
        let mut best: Option<(f64, u16)> = None;
        for team in teams {
            if !self.try_add(Member { ticket, team }) {
                continue;
            }
            let violation = self.violation();
            if violation == 0.0 {
                return true;
            }
            self.draft.remove_last(self.pool);
            if best.is_none_or(|(least, _team)| violation < least) {
                best = Some((violation, team));
            }
        }
        let Some((_violation, team)) = best else { return false };
        self.draft.add(self.pool, Member { ticket, team });
        true
    }

    /// Adds candidates until there is a match, going back where that leads nowhere. `players_from`: how many players the
    /// candidates from each on have, where that decides.
    fn fill(&mut self, candidates: &[u32], players_from: Option<&[u32]>) -> bool {
        let mut next = 0;
        let mut added: Vec<usize> = Vec::new();
        let mut was_complete = false;
        loop {
            let complete = self.is_complete();
            if complete {
                if self.violation() == 0.0 || (!was_complete && self.repair(candidates)) {
                    self.extend(candidates);
                    return true;
                }
                was_complete = true;
            }
            let stage = self.stage();
            let too_few = players_from.is_some_and(|from| {
                self.draft.players + from[next.min(candidates.len())] < self.least_players()
            });
            let full = self.draft.players >= stage.max_players();
            if next < candidates.len() && !too_few && !full {
                if self.work >= self.limit {
                    return false;
                }
                if self.place(candidates[next]) {
                    added.push(next);
                }
                next += 1;
                continue;
            }
            let Some(last) = added.pop() else { return false };
            if self.work >= self.limit {
                return false;
            }
            self.work += 1;
            self.draft.remove_last(self.pool);
            next = last + 1;
        }
    }

    /// The fewest players of a match with the first member, whoever joins.
    fn least_players(&self) -> u32 {
        self.rule_set.stages.iter().map(Stage::min_players).min().unwrap_or(0)
    }

    /// Lets members change teams, or gives their places to candidates, until the deferred rules hold.
    fn repair(&mut self, candidates: &[u32]) -> bool {
        let before = self.draft.members.clone();
        let mut least = self.violation();
        for _round in 0..MAX_REPAIRS {
            let Some(violation) = self.improve(candidates, least) else { break };
            if violation == 0.0 {
                return true;
            }
            least = violation;
        }
        self.draft.set(self.pool, &before);
        false
    }

    fn improve(&mut self, candidates: &[u32], least: f64) -> Option<f64> {
        let before = self.draft.members.clone();
        for first in 0..before.len() {
            for second in first + 1..before.len() {
                let (one, other) = (before[first], before[second]);
                if one.team == other.team || one.team == OWN_TEAMS || other.team == OWN_TEAMS {
                    continue;
                }
                let mut members = before.clone();
                members[first].team = other.team;
                members[second].team = one.team;
                if let Some(violation) = self.improved(&members, &before, least) {
                    return violation.ok();
                }
            }
        }
        for index in 1..before.len() {
            if before[index].team == OWN_TEAMS {
                continue;
            }
            for candidate in candidates.iter().take(MAX_REPLACEMENTS) {
                let entry = self.pool.entry(*candidate);
                if entry.backfill || before.iter().any(|member| member.ticket == *candidate) {
                    continue;
                }
                let mut members = before.clone();
                members[index].ticket = *candidate;
                if let Some(violation) = self.improved(&members, &before, least) {
                    return violation.ok();
                }
            }
        }
        None
    }

    /// Tries other members: `Some(Ok)` with the violation if they are better, `Some(Err)` if the work is used up.
    fn improved(&mut self, members: &[Member], before: &[Member], least: f64) -> Option<Result<f64, ()>> {
        if self.work >= self.limit {
            return Some(Err(()));
        }
        self.work += 1;
        self.draft.set(self.pool, members);
        if self.sizes_fit() && self.finals_hold() && self.is_complete() {
            let violation = self.violation();
            if violation < least {
                return Some(Ok(violation));
            }
        }
        self.draft.set(self.pool, before);
        None
    }

    /// Adds more players to a match, as long as it is one with them.
    fn extend(&mut self, candidates: &[u32]) {
        let teams = self.rule_set.teams.len();
        let limit = (self.work + EXTENSION_WORK * teams as u64).max(self.work + candidates.len() as u64);
        // One ticket for each team, so that teams that have to be equal can grow.
        let depth = if self.deferred.is_empty() { 1 } else { teams.clamp(2, 4) - 1 };
        let mut from = 0;
        while from < candidates.len() && self.draft.players < self.stage().max_players() && self.work < limit
        {
            match self.grow(candidates, from, depth, limit) {
                Some(next) => from = next,
                None => break,
            }
        }
    }

    /// Adds one to `depth + 1` candidates, such that all rules hold. Returns where to go on.
    fn grow(&mut self, candidates: &[u32], from: usize, depth: usize, limit: u64) -> Option<usize> {
        for (index, candidate) in candidates.iter().enumerate().skip(from) {
            if self.work >= limit {
                return None;
            }
            if !self.has_places(*candidate) || self.draft.contains(*candidate) {
                continue;
            }
            for team in self.teams_for(*candidate) {
                if !self.try_add(Member { ticket: *candidate, team }) {
                    continue;
                }
                if self.is_complete() && self.violation() == 0.0 {
                    return Some(index + 1);
                }
                if depth > 0 && self.grow(candidates, index + 1, depth - 1, limit).is_some() {
                    return Some(index + 1);
                }
                self.draft.remove_last(self.pool);
            }
        }
        None
    }
}
