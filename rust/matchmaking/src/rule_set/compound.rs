//! Statements of compound rules: `or(and(A, B), not(C))`.

use super::Rule;

/// How deep operators may be nested.
const MAX_DEPTH: usize = 16;
/// The longest statement, in bytes.
const MAX_LENGTH: usize = 2_000;

/// Rules joined by operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A rule, by its position.
    Rule(usize),
    /// All hold.
    And(Vec<Statement>),
    /// One holds at least.
    Or(Vec<Statement>),
    /// It does not hold.
    Not(Box<Statement>),
    /// Exactly one of both holds.
    Xor(Box<Statement>, Box<Statement>),
}

impl Statement {
    /// Reads a statement over the rules before it.
    pub fn parse(text: &str, rules: &[Rule]) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("a statement may have {MAX_LENGTH} bytes, this one has {}", text.len()));
        }
        let mut rest = text;
        let statement = parse(&mut rest, rules, 0)?;
        if rest.trim().is_empty() {
            Ok(statement)
        } else {
            Err(format!("`{}` is left over after the statement", rest.trim()))
        }
    }

    /// Adds the rules that the statement is made of.
    pub fn collect_rules(&self, rules: &mut Vec<usize>) {
        match self {
            Self::Rule(rule) => rules.push(*rule),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_rules(rules)),
            Self::Not(part) => part.collect_rules(rules),
            Self::Xor(one, other) => {
                one.collect_rules(rules);
                other.collect_rules(rules);
            }
        }
    }

    /// Whether the statement holds, given which rules do.
    pub fn holds(&self, rule_holds: &mut impl FnMut(usize) -> bool) -> bool {
        match self {
            Self::Rule(rule) => rule_holds(*rule),
            Self::And(parts) => parts.iter().all(|part| part.holds(rule_holds)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(rule_holds)),
            Self::Not(part) => !part.holds(rule_holds),
            Self::Xor(one, other) => one.holds(rule_holds) != other.holds(rule_holds),
        }
    }

    pub(super) fn is_final_when_violated(&self, rules: &[Rule]) -> bool {
        match self {
            Self::Rule(rule) => rules[*rule].final_when_violated,
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.is_final_when_violated(rules)),
            Self::Not(_) | Self::Xor(..) => false,
        }
    }
}

fn parse(rest: &mut &str, rules: &[Rule], depth: usize) -> Result<Statement, String> {
    if depth > MAX_DEPTH {
        return Err(format!("operators may be nested {MAX_DEPTH} deep"));
    }
    let end = rest.find(['(', ')', ',']).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let word = word.trim();
    if !after.starts_with('(') {
        *rest = after;
        return rules
            .iter()
            .position(|rule| rule.name == word)
            .map(Statement::Rule)
            .ok_or_else(|| format!("there is no rule `{word}` before this one"));
    }
    *rest = &after[1..];
    let mut parts = Vec::new();
    loop {
        parts.push(parse(rest, rules, depth + 1)?);
        let trimmed = rest.trim_start();
        if let Some(after) = trimmed.strip_prefix(',') {
            *rest = after;
        } else if let Some(after) = trimmed.strip_prefix(')') {
            *rest = after;
            break;
        } else {
            return Err(format!("a `)` is missing after the arguments of `{word}`"));
        }
    }
    operator(word, parts)
}

fn operator(word: &str, mut parts: Vec<Statement>) -> Result<Statement, String> {
    let count = parts.len();
    match word {
        "and" if count >= 2 => Ok(Statement::And(parts)),
        "or" if count >= 2 => Ok(Statement::Or(parts)),
        "not" if count == 1 => Ok(Statement::Not(Box::new(parts.remove(0)))),
        "xor" if count == 2 => {
            let other = parts.remove(1);
            Ok(Statement::Xor(Box::new(parts.remove(0)), Box::new(other)))
        }
        "and" | "or" | "not" | "xor" => Err(format!("`{word}` cannot have {count} arguments")),
        other => Err(format!("`{other}` is not an operator; there are and, or, not and xor")),
    }
}
