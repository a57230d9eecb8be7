//! Matchmaking: rule sets in FlexMatch's JSON, and matches formed by them. No I/O; the time and the seed are passed in.
#![deny(missing_docs)]

mod draft;
mod evaluate;
mod formed_match;
mod json_comments;
mod order;
mod pass;
mod pool;
pub mod random;
pub mod rule_set;
pub mod simulation;
mod small_match;
pub mod ticket;

pub use evaluate::RuleMetric;
pub use formed_match::{Match, Placement};
pub use pass::{Pass, Work};
pub use pool::Pool;
pub use rule_set::{RuleSet, RuleSetError};
pub use ticket::{AttributeValue, Player, Ticket, TicketError};
