//! Members of JSON objects, read as leniently as FlexMatch's samples need, with the path of each for errors.

use serde_json::{Map, Value};

use super::{MAX_NAME, RuleSetError};
use crate::ticket::{MAX_TEXT, MAX_VALUES_PER_ATTRIBUTE};

/// An object whose members are taken one by one, so that what is left over can be rejected.
pub struct Members<'a> {
    path: String,
    members: &'a Map<String, Value>,
    taken: Vec<&'static str>,
}

impl<'a> Members<'a> {
    pub fn new(path: impl Into<String>, value: &'a Value) -> Result<Self, RuleSetError> {
        let path = path.into();
        match value {
            Value::Object(members) => Ok(Self { path, members, taken: Vec::new() }),
            other => Err(RuleSetError::new(path, format!("has to be an object, not {}", kind(other)))),
        }
    }

    /// The path of a member.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub fn error(&self, name: &str, problem: impl Into<String>) -> RuleSetError {
        RuleSetError::new(self.path(name), problem)
    }

    /// A member; `null` counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.taken.push(name);
        self.members.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, RuleSetError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(name, format!("has to be a string, not {}", kind(other)))),
        }
    }

    pub fn name(&mut self) -> Result<String, RuleSetError> {
        let name = self.text("name")?.ok_or_else(|| self.error("name", "is missing"))?;
        if name.is_empty() || name.chars().count() > MAX_NAME {
            return Err(self.error("name", format!("has to have 1 to {MAX_NAME} characters")));
        }
        if name.contains(['[', ']', ',', '(', ')', '*']) || name.trim() != name {
            return Err(self.error("name", "may not have brackets, commas, `*` or spaces at its ends"));
        }
        Ok(name.to_owned())
    }

    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, RuleSetError> {
        self.take(name).map(|value| number(&self.path(name), value)).transpose()
    }

    pub fn count(&mut self, name: &'static str, max: u32) -> Result<Option<u32>, RuleSetError> {
        self.take(name).map(|value| count(&self.path(name), value, max)).transpose()
    }

    /// The elements of a list; a value that is no list is a list of one.
    pub fn list(&mut self, name: &'static str, max: usize) -> Result<Vec<(String, &'a Value)>, RuleSetError> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let path = self.path(name);
        let elements: Vec<_> = match value {
            Value::Array(elements) => elements
                .iter()
                .enumerate()
                .map(|(index, value)| (format!("{path}[{index}]"), value))
                .collect(),
            one => vec![(path, one)],
        };
        if elements.len() > max {
            let problem = format!("may have {max} elements, this one has {}", elements.len());
            return Err(self.error(name, problem));
        }
        Ok(elements)
    }

    /// One of several words, matched without regard to case.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, RuleSetError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match choices.iter().find(|(word, _meaning)| word.eq_ignore_ascii_case(text)) {
            Some((_word, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _meaning)| *word).collect();
                let problem = format!("`{text}` is not supported; it can be {}", words.join(", "));
                Err(self.error(name, problem))
            }
        }
    }

    /// Rejects members that nobody took.
    pub fn finish(self) -> Result<(), RuleSetError> {
        match self.members.keys().find(|name| !self.taken.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let known = self.taken.join(", ");
                Err(self.error(name, format!("is not supported here; supported are {known}")))
            }
        }
    }
}

/// A finite number, or a text that is one.
pub fn number(path: &str, value: &Value) -> Result<f64, RuleSetError> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| RuleSetError::new(path, format!("has to be a number, not {}", kind(value))))
}

/// A whole number of at most `max`.
pub fn count(path: &str, value: &Value, max: u32) -> Result<u32, RuleSetError> {
    let number = number(path, value)?;
    if number.fract() != 0.0 || number < 0.0 || number > f64::from(max) {
        return Err(RuleSetError::new(
            path,
            format!("has to be a whole number from 0 to {max}, not {number}"),
        ));
    }
    Ok(number as u32)
}

/// What a value is, for errors.
pub fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A text of at most [`MAX_TEXT`] characters.
pub fn text_value(path: &str, value: &Value) -> Result<String, RuleSetError> {
    match value {
        Value::String(text) if text.chars().count() <= MAX_TEXT => Ok(text.clone()),
        Value::String(_) => Err(RuleSetError::new(path, format!("may have {MAX_TEXT} characters"))),
        other => Err(RuleSetError::new(path, format!("has to be a string, not {}", kind(other)))),
    }
}

/// A list of texts; a text is a list of one.
pub fn texts(path: &str, value: &Value) -> Result<Vec<String>, RuleSetError> {
    match value {
        Value::Array(elements) if elements.len() > MAX_VALUES_PER_ATTRIBUTE => {
            Err(RuleSetError::new(path, format!("may have {MAX_VALUES_PER_ATTRIBUTE} elements")))
        }
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .map(|(index, element)| text_value(&format!("{path}[{index}]"), element))
            .collect(),
        one => Ok(vec![text_value(path, one)?]),
    }
}
