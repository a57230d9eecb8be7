//! Rule sets: which tickets may be in one match. The JSON is that of FlexMatch; `docs/src/matchmaking.md` states the subset.

mod compound;
pub(crate) mod expression;
mod members;
mod read;
mod read_rules;
mod stages;

pub use compound::Statement;

use self::expression::{Expression, Growth};
use crate::ticket::AttributeValue;

/// The longest rule set, in bytes.
pub const MAX_BYTES: usize = 65_535;
/// The largest number of players of a match that is searched for exhaustively. A larger one is filled evenly.
pub const MAX_SMALL_MATCH: u32 = 40;
/// The largest number of players of a match.
pub const MAX_MATCH: u32 = 200;
/// The largest number of declared attributes.
pub const MAX_ATTRIBUTES: usize = 32;
/// The largest number of rules.
pub const MAX_RULES: usize = 64;
/// The largest number of measurements of one rule.
pub const MAX_MEASUREMENTS: usize = 16;
/// The largest number of expansions, and of steps of each.
pub const MAX_EXPANSIONS: usize = 32;
/// The longest name, in characters.
pub const MAX_NAME: usize = 128;

/// Why a rule set is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct RuleSetError {
    /// The member, such as `rules[2].maxDistance`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl RuleSetError {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeKind {
    /// `number`
    Number,
    /// `string`
    Text,
    /// `string_list`
    TextList,
    /// `string_number_map`
    NumberMap,
}

/// A declared attribute of players.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: AttributeKind,
    /// Its position among the attributes of its type.
    pub column: usize,
    /// The value of a player who has none. Without it, the attribute is mandatory.
    pub default: Option<AttributeValue>,
}

/// A team of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamInstance {
    /// Its name: that of the rule set, with `_1`, `_2` … where the quantity is above 1.
    pub name: String,
    /// Its name in the rule set.
    pub base_name: String,
}

/// How many players a team has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeamSize {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// How tickets are put into the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batching {
    /// By chance.
    Random,
    /// By these attributes.
    Sorted(Vec<usize>),
    /// By the region that most tickets can play in. Large matches only.
    LargestPopulation,
    /// By the region in which each ticket has its lowest latency. Large matches only.
    FastestRegion,
}

/// When tickets of running games are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillPriority {
    /// Like others, by their age.
    Normal,
    /// After all others.
    Low,
    /// Before all others.
    High,
}

/// The member `algorithm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithm {
    /// The order of tickets.
    pub batching: Batching,
    /// The number by which players of a large match are similar, and dealt to teams: an index of `attributes`.
    pub balanced_attribute: Option<usize>,
    /// Whether expansions follow the age of the oldest ticket of a match rather than of the newest.
    pub oldest_expands: bool,
    /// When tickets of running games are tried.
    pub backfill_priority: BackfillPriority,
}

/// How the values of a party become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartyAggregation {
    /// The mean of its numbers; the texts of all its lists.
    AvgOrUnion,
    /// Its smallest number; the texts that are in each of its lists.
    MinOrIntersection,
    /// Its largest number.
    Max,
}

impl PartyAggregation {
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `!=`
    Different,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// What a collection rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionOperation {
    /// The texts that are in all lists.
    Intersection,
    /// The lists that have the reference; of a single list, its elements that are the reference.
    Contains,
    /// For each list, its texts that are in the reference.
    ReferenceIntersectionCount,
}

/// What latencies are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyReference {
    /// The lowest of the match.
    Min,
    /// The mean of the match.
    Avg,
}

/// The key of a map by which tickets are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKey {
    /// The one with the lowest value.
    MinValue,
    /// The one with the highest value.
    MaxValue,
}

/// What a sort rule sorts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortRule {
    /// Whether the largest comes first.
    pub descending: bool,
    /// An index of `attributes`.
    pub attribute: usize,
    /// The key, of an attribute that is a map.
    pub map_key: MapKey,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// The attribute is alike in all tickets. An index of `attributes`.
    BatchDistance(usize),
    /// Values compare with a reference, or with each other.
    Comparison(Vec<Expression>, Comparison),
    /// Numbers are at some distance of a reference.
    Distance(Vec<Expression>),
    /// Texts are counted.
    Collection(Vec<Expression>, CollectionOperation),
    /// There is a region that is near to all.
    Latency(Option<LatencyReference>),
    /// Candidates are tried in the order of an attribute.
    AbsoluteSort(SortRule),
    /// Candidates are tried in the order of their distance to the first ticket.
    DistanceSort(SortRule),
    /// Other rules hold, or do not.
    Compound(Statement),
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: RuleKind,
    /// How the values of a party become one.
    pub aggregation: PartyAggregation,
    /// Whether a compound rule is made of it, so that it need not hold by itself.
    pub part_of_compound: bool,
    /// Whether a match that violates it violates it with more players, too.
    pub final_when_violated: bool,
}

/// What measurements are compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference {
    /// A number.
    Number(f64),
    /// A text, by its number in `RuleSet::texts`.
    Text(u32),
    /// Texts.
    Texts(Vec<u32>),
    /// What an expression yields.
    Expression(Expression),
}

/// The members of a rule that expansions can change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters {
    /// `minDistance` or `minCount`
    pub min: Option<f64>,
    /// `maxDistance`, `maxCount` or `maxLatency`
    pub max: Option<f64>,
    /// `maxDistance` of a latency rule
    pub max_latency_distance: Option<f64>,
    /// `referenceValue`
    pub reference: Option<Reference>,
}

/// What holds from an age on: the expansions, applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The age, in milliseconds.
    pub from_ms: i64,
    /// The size of each team.
    pub teams: Vec<TeamSize>,
    /// The parameters of each rule.
    pub rules: Vec<Parameters>,
}

impl Stage {
    /// The fewest players of a match.
    pub fn min_players(&self) -> u32 {
        self.teams.iter().map(|team| team.min).sum()
    }

    /// The most players of a match.
    pub fn max_players(&self) -> u32 {
        self.teams.iter().map(|team| team.max).sum()
    }
}

/// A rule set that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSet {
    /// The member `name`.
    pub name: String,
    /// The declared attributes.
    pub attributes: Vec<Attribute>,
    /// The teams of a match.
    pub teams: Vec<TeamInstance>,
    /// The member `algorithm`.
    pub algorithm: Algorithm,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// What holds from which age on. The first is for new tickets.
    pub stages: Vec<Stage>,
    /// Whether matches are filled evenly rather than searched for.
    pub large: bool,
    /// Texts of references, by their numbers.
    pub texts: Vec<String>,
}

impl RuleSet {
    /// Reads a rule set.
    pub fn parse(text: &str) -> Result<Self, RuleSetError> {
        read::rule_set(text)
    }

    /// How many attributes there are of a type.
    pub fn columns(&self, kind: AttributeKind) -> usize {
        self.attributes.iter().filter(|attribute| attribute.kind == kind).count()
    }

    /// The stage of a match or ticket of this age.
    pub fn stage_at(&self, age_ms: i64) -> usize {
        self.stages.partition_point(|stage| stage.from_ms <= age_ms).max(1) - 1
    }

    /// The most players that a match ever has.
    pub fn max_players(&self) -> u32 {
        self.stages.iter().map(Stage::max_players).max().unwrap_or(0)
    }
}

impl Rule {
    /// Whether it says something about a match, rather than about the order of candidates.
    pub fn is_condition(&self) -> bool {
        !matches!(self.kind, RuleKind::AbsoluteSort(_) | RuleKind::DistanceSort(_))
    }
}

/// Whether a rule that is violated stays violated as players are added.
pub(crate) fn is_final_when_violated(kind: &RuleKind, parameters: &[&Parameters], rules: &[Rule]) -> bool {
    match kind {
        RuleKind::BatchDistance(_) => true,
        RuleKind::AbsoluteSort(_) | RuleKind::DistanceSort(_) => false,
        RuleKind::Latency(reference) => *reference != Some(LatencyReference::Avg),
        RuleKind::Compound(statement) => statement.is_final_when_violated(rules),
        RuleKind::Comparison(measurements, operation) => {
            parameters.iter().all(|of| match of.reference {
                None | Some(Reference::Number(_) | Reference::Text(_) | Reference::Texts(_)) => true,
                Some(Reference::Expression(_)) => false,
            }) && measurements.iter().all(|measurement| match measurement.growth() {
                Growth::Grows => true,
                Growth::Rises => matches!(operation, Comparison::Less | Comparison::AtMost),
                Growth::Falls => matches!(operation, Comparison::Greater | Comparison::AtLeast),
                Growth::Shrinks | Growth::Varies => false,
            })
        }
        RuleKind::Distance(measurements) => parameters
            .iter()
            .all(|of| measurements.iter().all(|measurement| distance_is_final(measurement.growth(), of))),
        RuleKind::Collection(measurements, operation) => parameters.iter().all(|of| {
            measurements.iter().all(|measurement| collection_is_final(measurement, *operation, of))
        }),
    }
}

fn distance_is_final(measurement: Growth, parameters: &Parameters) -> bool {
    match &parameters.reference {
        Some(Reference::Expression(reference)) => {
            // The range of values, written as the distance of the largest to the smallest.
            parameters.min.is_none()
                && matches!(
                    (measurement, reference.growth()),
                    (Growth::Rises, Growth::Falls) | (Growth::Falls, Growth::Rises)
                )
        }
        _ => measurement == Growth::Grows,
    }
}

fn collection_is_final(
    measurement: &Expression,
    operation: CollectionOperation,
    parameters: &Parameters,
) -> bool {
    if measurement.growth() != Growth::Grows {
        return false;
    }
    let reference = match &parameters.reference {
        Some(Reference::Expression(expression)) => Some(expression.growth()),
        _ => None,
    };
    match operation {
        CollectionOperation::Intersection => parameters.max.is_none(),
        CollectionOperation::Contains => parameters.min.is_none() && reference.is_none(),
        CollectionOperation::ReferenceIntersectionCount => {
            (parameters.min.is_none() || matches!(reference, None | Some(Growth::Shrinks)))
                && (parameters.max.is_none() || matches!(reference, None | Some(Growth::Grows)))
        }
    }
}
