//! A statement whose conditions depend on the request.

/// Values for the placeholders of a growing statement.
#[derive(Clone)]
pub enum Bind {
    Text(String),
    Number(i64),
    Float(f64),
}

/// A statement that grows.
#[derive(Clone)]
pub struct Conditions {
    pub sql: String,
    pub values: Vec<Bind>,
}

impl Conditions {
    /// The placeholder of `value`.
    pub fn bind(&mut self, value: Bind) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Adds a condition in which `?` stands for `value`; the texts are constants of the caller.
    pub fn and(&mut self, condition: &'static str, value: Bind) {
        let placeholder = self.bind(value);
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replace('?', &placeholder));
    }
}
