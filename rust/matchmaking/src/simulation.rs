//! Players as they could come, and what matchmaking makes of them: for choosing rules before players are there.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use crate::evaluate::RuleMetric;
use crate::formed_match::Match;
use crate::pass::Work;
use crate::pool::Pool;
use crate::random::Random;
use crate::rule_set::{Attribute, AttributeKind, RuleSet};
use crate::ticket::{AttributeValue, Player, Ticket, TicketError};

/// How the values of an attribute are spread.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// Around a mean, with a standard deviation.
    Normal(f64, f64),
    /// Evenly from one number to another.
    Uniform(f64, f64),
    /// One of these texts; for a list, some of them; for a map, a number for each.
    Choice(Vec<String>),
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "`{text}` is not a distribution; write normal:MEAN,DEVIATION or uniform:MIN,MAX or choice:A,B,…"
            )
        };
        let (kind, values) = text.split_once(':').ok_or_else(form)?;
        if kind == "choice" {
            return Ok(Self::Choice(values.split(',').map(str::to_owned).collect()));
        }
        let (one, other) = values.split_once(',').ok_or_else(form)?;
        let number =
            |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(form);
        match kind {
            "normal" => Ok(Self::Normal(number(one)?, number(other)?)),
            "uniform" => Ok(Self::Uniform(number(one)?, number(other)?)),
            _ => Err(form()),
        }
    }
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many tickets come.
    pub tickets: usize,
    /// How many of them come per second; 0: all at once.
    pub per_second: f64,
    /// The seed of the random numbers.
    pub seed: u64,
    /// Time between passes, in milliseconds.
    pub interval_ms: i64,
    /// How long a ticket waits, in milliseconds.
    pub timeout_ms: i64,
    /// The share of tickets that are parties, 0 to 1.
    pub parties: f64,
    /// The regions. Each player has one that is near.
    pub regions: Vec<String>,
    /// How attributes are spread, by name.
    pub attributes: BTreeMap<String, Distribution>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tickets: 1_000,
            per_second: 20.0,
            seed: 1,
            interval_ms: 1_000,
            timeout_ms: 120_000,
            parties: 0.25,
            regions: ["eu", "us", "asia"].map(str::to_owned).to_vec(),
            attributes: BTreeMap::new(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The number of matches.
    pub matches: usize,
    /// The number of players of each match.
    pub sizes: Vec<usize>,
    /// How long each matched ticket waited, in milliseconds.
    pub waits_ms: Vec<i64>,
    /// The range of the first number of the players of each match, such as of their skill.
    pub gaps: Vec<f64>,
    /// Tickets that waited until their time-out.
    pub timed_out: usize,
    /// For each rule, how often it held and did not.
    pub rules: Vec<(String, RuleMetric)>,
    /// The number of passes.
    pub passes: usize,
    /// Passes that ended because their work was used up.
    pub cut_short: usize,
}

/// Makes tickets from a seed.
pub struct Generator<'a> {
    rule_set: &'a RuleSet,
    settings: &'a Settings,
    random: Random,
    tickets: usize,
    players: usize,
    largest_party: usize,
}

impl<'a> Generator<'a> {
    /// The generator of a rule set's tickets.
    pub fn new(rule_set: &'a RuleSet, settings: &'a Settings) -> Self {
        let teams = rule_set.stages[0].teams.iter();
        let largest_party = teams.map(|team| team.max as usize).max().unwrap_or(1).min(4);
        Self { rule_set, settings, random: Random::new(settings.seed), tickets: 0, players: 0, largest_party }
    }

    /// The next ticket.
    pub fn ticket(&mut self, created_at_ms: i64) -> Ticket {
        let is_party = self.largest_party > 1 && self.random.fraction() < self.settings.parties;
        let count = if is_party { 2 + self.random.below(self.largest_party - 1) } else { 1 };
        let players = (0..count).map(|_player| self.player()).collect();
        self.tickets += 1;
        Ticket { id: format!("ticket-{}", self.tickets), created_at_ms, players, backfill: false }
    }

    fn player(&mut self) -> Player {
        self.players += 1;
        let rule_set = self.rule_set;
        let attributes = rule_set
            .attributes
            .iter()
            .map(|attribute| (attribute.name.clone(), self.value(attribute)))
            .collect();
        let home = self.random.below(self.settings.regions.len().max(1));
        let latency_ms = self
            .settings
            .regions
            .iter()
            .enumerate()
            .map(|(index, region)| {
                let base = if index == home { 15 } else { 70 };
                (region.clone(), (base + self.random.below(60)) as u32)
            })
            .collect();
        Player { id: format!("player-{}", self.players), attributes, latency_ms, team: None }
    }

    fn value(&mut self, attribute: &Attribute) -> AttributeValue {
        let chosen = self.settings.attributes.get(&attribute.name);
        let choices = match chosen {
            Some(Distribution::Choice(choices)) => choices.clone(),
            _ if self.rule_set.texts.is_empty() => ["a", "b", "c"].map(str::to_owned).to_vec(),
            _ => self.rule_set.texts.clone(),
        };
        match attribute.kind {
            AttributeKind::Number => AttributeValue::Number(self.number(chosen, &choices)),
            AttributeKind::Text => AttributeValue::Text(choices[self.random.below(choices.len())].clone()),
            AttributeKind::TextList => {
                let mut some = choices;
                self.random.shuffle(&mut some);
                some.truncate(1 + self.random.below(3));
                AttributeValue::TextList(some)
            }
            AttributeKind::NumberMap => AttributeValue::NumberMap(
                choices.into_iter().map(|key| (key, self.random.below(100) as f64)).collect(),
            ),
        }
    }

    fn number(&mut self, chosen: Option<&Distribution>, choices: &[String]) -> f64 {
        match chosen {
            Some(Distribution::Normal(mean, deviation)) => (mean + deviation * self.random.normal()).round(),
            Some(Distribution::Uniform(min, max)) => min + (max - min) * self.random.fraction(),
            Some(Distribution::Choice(_)) => {
                choices[self.random.below(choices.len())].parse().unwrap_or_default()
            }
            None => (50.0 + 15.0 * self.random.normal()).round(),
        }
    }
}

/// Lets tickets come and forms matches until all have one or have waited too long. `observe` gets each match with its
/// time and its tickets.
pub fn run(
    rule_set: &Arc<RuleSet>,
    settings: &Settings,
    mut observe: impl FnMut(i64, &Match, &[&Ticket]),
) -> Result<Report, TicketError> {
    let mut generator = Generator::new(rule_set, settings);
    let mut pool = Pool::new(Arc::clone(rule_set));
    let mut waiting: BTreeMap<String, Ticket> = BTreeMap::new();
    let mut report = Report {
        rules: rule_set.rules.iter().map(|rule| (rule.name.clone(), RuleMetric::default())).collect(),
        ..Report::default()
    };
    let mut come = 0;
    let mut now_ms = 0;
    while come < settings.tickets || !waiting.is_empty() {
        while come < settings.tickets {
            let at_ms = if settings.per_second > 0.0 {
                (come as f64 * 1_000.0 / settings.per_second) as i64
            } else {
                0
            };
            if at_ms > now_ms {
                break;
            }
            let ticket = generator.ticket(at_ms);
            pool.add(&ticket)?;
            waiting.insert(ticket.id.clone(), ticket);
            come += 1;
        }
        let pass = pool.form_matches(now_ms, settings.seed ^ report.passes as u64, Work::default());
        report.passes += 1;
        report.cut_short += usize::from(pass.work_used_up);
        for ((_name, total), of_pass) in report.rules.iter_mut().zip(&pass.rules) {
            total.passed += of_pass.passed;
            total.failed += of_pass.failed;
        }
        for formed in &pass.matches {
            let tickets: Vec<&Ticket> = formed.tickets.iter().filter_map(|id| waiting.get(id)).collect();
            observe(now_ms, formed, &tickets);
            count(&mut report, rule_set, now_ms, formed, &tickets);
            for id in &formed.tickets {
                waiting.remove(id);
                pool.remove(id);
            }
        }
        let timed_out: Vec<String> = waiting
            .values()
            .filter(|ticket| now_ms - ticket.created_at_ms >= settings.timeout_ms)
            .map(|ticket| ticket.id.clone())
            .collect();
        report.timed_out += timed_out.len();
        for id in timed_out {
            waiting.remove(&id);
            pool.remove(&id);
        }
        now_ms += settings.interval_ms.max(1);
    }
    Ok(report)
}

fn count(report: &mut Report, rule_set: &RuleSet, now_ms: i64, formed: &Match, tickets: &[&Ticket]) {
    report.matches += 1;
    report.sizes.push(formed.players.len());
    report.waits_ms.extend(tickets.iter().map(|ticket| now_ms - ticket.created_at_ms));
    let Some(attribute) = rule_set.attributes.iter().find(|of| of.kind == AttributeKind::Number) else {
        return;
    };
    let players = tickets.iter().flat_map(|ticket| &ticket.players);
    let numbers = players.filter_map(|player| match player.attributes.get(&attribute.name) {
        Some(AttributeValue::Number(number)) => Some(*number),
        _ => None,
    });
    let (min, max) = numbers
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), number| (min.min(number), max.max(number)));
    if min <= max {
        report.gaps.push(max - min);
    }
}
