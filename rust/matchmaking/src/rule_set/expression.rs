//! Property expressions: which values of which players a rule looks at, such as `avg(teams[*].players.attributes[skill])`.

use super::{Attribute, AttributeKind, TeamInstance};

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 1_000;
/// How deep functions may be nested.
const MAX_DEPTH: usize = 8;

/// What is read of each player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The player, to be counted.
    Player,
    /// The id of the player.
    Id,
    /// A number, by its column.
    Number(usize),
    /// A text, by its column.
    Text(usize),
    /// A list of texts, by its column.
    TextList(usize),
}

/// Functions over lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// The smallest number.
    Min,
    /// The largest number.
    Max,
    /// The mean.
    Avg,
    /// The median; the mean of the middle two where their number is even.
    Median,
    /// The sum.
    Sum,
    /// The number of elements.
    Count,
    /// The standard deviation of the population.
    Stddev,
    /// A list of lists as one list.
    Flatten,
    /// The texts that are in all lists.
    SetIntersection,
}

/// A property expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Values of the players of teams.
    Players {
        /// The teams, by their position.
        teams: Vec<usize>,
        /// Whether there is a list per team.
        by_team: bool,
        /// What is read.
        field: Field,
    },
    /// A function of another expression.
    Call(Function, Box<Expression>),
}

/// What the innermost elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Players, which can only be counted.
    Player,
    /// Numbers.
    Number,
    /// Texts.
    Text,
}

/// The type of an expression: elements in `depth` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    /// The innermost elements.
    pub element: Element,
    /// How many lists they are in; 0 for a single value.
    pub depth: usize,
}

impl std::fmt::Display for Type {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let element = match self.element {
            Element::Player => "player",
            Element::Number => "number",
            Element::Text => "string",
        };
        write!(formatter, "{}{element}{}", "List<".repeat(self.depth), ">".repeat(self.depth))
    }
}

/// What expressions may refer to.
pub struct Names<'a> {
    /// The declared attributes.
    pub attributes: &'a [Attribute],
    /// The teams.
    pub teams: &'a [TeamInstance],
}

/// Whether a text is meant as an expression rather than as a value.
pub fn is_expression(text: &str) -> bool {
    let text = text.trim_start();
    ["teams[", "team["].iter().any(|start| text.starts_with(start))
        || text.split_once('(').is_some_and(|(name, _rest)| function(name.trim()).is_some())
}

/// Reads an expression, and returns it with its type.
pub fn parse(text: &str, names: &Names<'_>) -> Result<(Expression, Type), String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("an expression may have {MAX_LENGTH} bytes, this one has {}", text.len()));
    }
    let mut parser = Parser { rest: text, names };
    let parsed = parser.expression(0)?;
    if !parser.rest.trim().is_empty() {
        return Err(format!("`{}` is left over after the expression", parser.rest.trim()));
    }
    Ok(parsed)
}

fn function(name: &str) -> Option<Function> {
    Some(match name {
        "min" => Function::Min,
        "max" => Function::Max,
        "avg" => Function::Avg,
        "median" => Function::Median,
        "sum" => Function::Sum,
        "count" => Function::Count,
        "stddev" => Function::Stddev,
        "flatten" => Function::Flatten,
        "set_intersection" => Function::SetIntersection,
        _ => return None,
    })
}

struct Parser<'a> {
    rest: &'a str,
    names: &'a Names<'a>,
}

impl<'a> Parser<'a> {
    fn expression(&mut self, depth: usize) -> Result<(Expression, Type), String> {
        if depth > MAX_DEPTH {
            return Err(format!("functions may be nested {MAX_DEPTH} deep"));
        }
        let name = self.word();
        if matches!(name, "teams" | "team") {
            return self.players();
        }
        let Some(function) = function(name) else {
            return Err(format!(
                "`{name}` is not a function; there are min, max, avg, median, sum, count, stddev, flatten and \
                 set_intersection, and a path starts with `teams[…]`"
            ));
        };
        self.expect("(")?;
        let (inner, of) = self.expression(depth + 1)?;
        self.expect(")")?;
        let kind = result_type(function, of).map_err(|needs| format!("{name}() needs {needs}, not {of}"))?;
        Ok((Expression::Call(function, Box::new(inner)), kind))
    }

    /// After `teams`.
    fn players(&mut self) -> Result<(Expression, Type), String> {
        let listed = self.bracketed()?;
        let (teams, by_team) = self.teams(listed)?;
        self.expect(".")?;
        let word = self.word();
        if word != "players" {
            return Err(format!("`.players` has to follow the teams, not `.{word}`"));
        }
        let (field, element, inner) = self.field()?;
        let depth = 1 + usize::from(by_team) + inner;
        Ok((Expression::Players { teams, by_team, field }, Type { element, depth }))
    }

    fn field(&mut self) -> Result<(Field, Element, usize), String> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('[') {
            return match self.bracketed()? {
                "playerId" => Ok((Field::Id, Element::Text, 0)),
                other => Err(format!("`players[{other}]`: only `players[playerId]` can be read")),
            };
        }
        if !self.rest.starts_with('.') {
            return Ok((Field::Player, Element::Player, 0));
        }
        self.expect(".")?;
        match self.word() {
            "playerId" => return Ok((Field::Id, Element::Text, 0)),
            "attributes" => {}
            other => return Err(format!("`.players.{other}`: only `.attributes[…]` can follow")),
        }
        let name = self.bracketed()?;
        let Some(attribute) = self.names.attributes.iter().find(|attribute| attribute.name == name) else {
            return Err(format!("attribute `{name}` is not declared in playerAttributes"));
        };
        match attribute.kind {
            AttributeKind::Number => Ok((Field::Number(attribute.column), Element::Number, 0)),
            AttributeKind::Text => Ok((Field::Text(attribute.column), Element::Text, 0)),
            AttributeKind::TextList => Ok((Field::TextList(attribute.column), Element::Text, 1)),
            AttributeKind::NumberMap => Err(format!(
                "attribute `{name}` is a string_number_map, which only absoluteSort and distanceSort can use"
            )),
        }
    }

    fn teams(&self, listed: &str) -> Result<(Vec<usize>, bool), String> {
        let all = self.names.teams;
        if listed.trim() == "*" {
            return Ok(((0..all.len()).collect(), true));
        }
        let mut teams = Vec::new();
        let mut by_team = false;
        for name in listed.split(',').map(str::trim) {
            let before = teams.len();
            teams.extend((0..all.len()).filter(|index| all[*index].name == name));
            if teams.len() == before {
                // A team of several copies is all of them.
                teams.extend((0..all.len()).filter(|index| all[*index].base_name == name));
                by_team |= teams.len() > before + 1;
            }
            if teams.len() == before {
                return Err(format!("there is no team `{name}`"));
            }
        }
        by_team |= teams.len() > 1;
        Ok((teams, by_team))
    }

    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self
            .rest
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn bracketed(&mut self) -> Result<&'a str, String> {
        self.expect("[")?;
        let Some((inner, rest)) = self.rest.split_once(']') else {
            return Err("a `]` is missing".to_owned());
        };
        self.rest = rest;
        Ok(inner.trim())
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => {
                let found: String = self.rest.chars().take(20).collect();
                Err(format!("`{token}` is missing before `{found}`"))
            }
        }
    }
}

fn result_type(function: Function, of: Type) -> Result<Type, &'static str> {
    match function {
        Function::Count if of.depth >= 1 => Ok(Type { element: Element::Number, depth: of.depth - 1 }),
        Function::Count => Err("a list"),
        Function::Flatten if of.depth >= 2 && of.element != Element::Player => {
            Ok(Type { element: of.element, depth: of.depth - 1 })
        }
        Function::Flatten => Err("a list of lists"),
        Function::SetIntersection if of.depth >= 2 && of.element == Element::Text => {
            Ok(Type { element: Element::Text, depth: of.depth - 1 })
        }
        Function::SetIntersection => Err("a List<List<string>>"),
        _ if of.depth >= 1 && of.element == Element::Number => {
            Ok(Type { element: Element::Number, depth: of.depth - 1 })
        }
        _ => Err("a list of numbers"),
    }
}

/// What happens to the value as players are added to a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Elements are added; those that are there stay as they are.
    Grows,
    /// A list loses elements.
    Shrinks,
    /// A number never falls.
    Rises,
    /// A number never rises.
    Falls,
    /// Anything may happen.
    Varies,
}

impl Expression {
    /// What happens to the value as players are added.
    pub fn growth(&self) -> Growth {
        match self {
            Self::Players { .. } => Growth::Grows,
            Self::Call(function, inner) => match (function, inner.growth()) {
                (Function::Flatten, growth) => growth,
                (Function::Max | Function::Count, Growth::Grows) if inner.is_one_list() => Growth::Rises,
                (Function::Min, Growth::Grows) if inner.is_one_list() => Growth::Falls,
                (Function::SetIntersection, Growth::Grows) if inner.is_one_list_of_lists() => Growth::Shrinks,
                _ => Growth::Varies,
            },
        }
    }

    /// The column of the text that is read of the players of all teams, if it is that.
    pub fn text_of_everybody(&self, team_count: usize) -> Option<usize> {
        match self {
            Self::Call(Function::Flatten, inner) => inner.text_of_everybody(team_count),
            Self::Players { teams, field: Field::Text(column), .. } if teams.len() == team_count => {
                Some(*column)
            }
            _ => None,
        }
    }

    /// Whether the value is a list of a value for each player, whose elements do not change as others join.
    fn is_one_list(&self) -> bool {
        match self {
            Self::Players { by_team, field, .. } => !by_team && !matches!(field, Field::TextList(_)),
            Self::Call(Function::Flatten, inner) => {
                matches!(&**inner, Self::Players { by_team: true, field, .. } if !matches!(field, Field::TextList(_)))
            }
            Self::Call(..) => false,
        }
    }

    fn is_one_list_of_lists(&self) -> bool {
        match self {
            Self::Players { by_team, field, .. } => !by_team && matches!(field, Field::TextList(_)),
            Self::Call(Function::Flatten, inner) => {
                matches!(&**inner, Self::Players { by_team: true, field: Field::TextList(_), .. })
            }
            Self::Call(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, kind: AttributeKind) -> Attribute {
        Attribute { name: name.to_owned(), kind, column: 0, default: None }
    }

    fn parsed(text: &str) -> Result<(Expression, Type), String> {
        let attributes = [
            attribute("skill", AttributeKind::Number),
            attribute("modes", AttributeKind::TextList),
            attribute("role", AttributeKind::Text),
            attribute("maps", AttributeKind::NumberMap),
        ];
        let team =
            |name: &str, base: &str| TeamInstance { name: name.to_owned(), base_name: base.to_owned() };
        let teams = [team("red", "red"), team("trio_1", "trio"), team("trio_2", "trio")];
        parse(text, &Names { attributes: &attributes, teams: &teams })
    }

    #[test]
    fn types_follow_the_lists() {
        for (text, kind) in [
            ("teams[red].players.attributes[skill]", "List<number>"),
            ("teams[ red , trio_1 ] . players . attributes[skill]", "List<List<number>>"),
            ("teams[trio].players.attributes[role]", "List<List<string>>"),
            ("avg(teams[*].players.attributes[skill])", "List<number>"),
            ("max(avg(teams[*].players.attributes[skill]))", "number"),
            ("flatten(teams[*].players.attributes[modes])", "List<List<string>>"),
            ("set_intersection(flatten(teams[*].players.attributes[modes]))", "List<string>"),
            ("count(team[red].players)", "number"),
            ("count(teams[*].players)", "List<number>"),
            ("teams[red].players[playerId]", "List<string>"),
        ] {
            assert_eq!(parsed(text).map(|(_parsed, kind)| kind.to_string()), Ok(kind.to_owned()), "{text}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, problem) in [
            ("teams[blue].players", "there is no team `blue`"),
            ("teams[red].players.attributes[rank]", "attribute `rank` is not declared"),
            ("teams[red].players.attributes[maps]", "string_number_map"),
            ("avg(teams[red].players)", "avg() needs a list of numbers, not List<player>"),
            ("avg(avg(teams[red].players.attributes[skill]))", "not number"),
            ("mode(teams[red].players)", "`mode` is not a function"),
            ("avg(teams[red].players.attributes[skill]", "`)` is missing"),
            ("teams[red].players x", "left over"),
            ("", "`` is not a function"),
            ("teams[red", "a `]` is missing"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
        let deep = format!("{}teams[red].players{}", "min(".repeat(9), ")".repeat(9));
        assert!(parsed(&deep).expect_err("too deep").contains("nested 8 deep"));
    }
}
