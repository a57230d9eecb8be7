//! Custom attributes of rooms as rows, by which lists are filtered.

use backend_protocol::rooms::{AttributeFilter, AttributeValue, Attributes, Comparison};
use sqlx::AssertSqlSafe;

use super::growing_statement::{Bind, Conditions};
use crate::database::{Database, Transaction};
use crate::http::ApiResult;

/// Stores `attributes` in place of those that the room had.
pub async fn store(tx: &mut Transaction, server_id: &str, attributes: &Attributes) -> ApiResult<()> {
    sqlx::query("DELETE FROM room_attributes WHERE server_id = $1")
        .bind(server_id)
        .execute(&mut *tx.conn)
        .await?;
    if attributes.is_empty() {
        return Ok(());
    }
    let rows: Vec<String> = (0..attributes.len())
        .map(|row| {
            let first = row * 4 + 2;
            format!("($1, ${first}, ${}, ${}, ${})", first + 1, first + 2, first + 3)
        })
        .collect();
    let sql = format!(
        "INSERT INTO room_attributes (server_id, attribute_name, number_value, text_value, flag_value) VALUES {}",
        rows.join(", ")
    );
    let mut statement = sqlx::query(AssertSqlSafe(sql)).bind(server_id);
    for (name, value) in attributes {
        let text = if let AttributeValue::String(text) = value { Some(text.as_str()) } else { None };
        let flag = if let AttributeValue::Bool(flag) = value { Some(i64::from(*flag)) } else { None };
        statement = statement.bind(name.as_str()).bind(number(value)).bind(text).bind(flag);
    }
    statement.execute(&mut *tx.conn).await?;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "numbers are compared as floats")]
const fn number(value: &AttributeValue) -> Option<f64> {
    match value {
        AttributeValue::Int(number) => Some(*number as f64),
        AttributeValue::Float(number) => Some(*number),
        _ => None,
    }
}

/// Adds the condition that rooms meet `filter`.
pub fn filter(conditions: &mut Conditions, database: &Database, filter: &AttributeFilter) {
    let operator = match filter.op {
        Comparison::Unequal => "<>",
        Comparison::In => "=",
        other => other.as_str(),
    };
    let name = conditions.bind(Bind::Text(filter.name.clone()));
    let any: Vec<String> = filter
        .value
        .all()
        .iter()
        .map(|value| {
            let (column, bind) = match value {
                // By code points, whatever the language of the database.
                AttributeValue::String(text) if database.is_sqlite() => {
                    ("text_value", Bind::Text(text.clone()))
                }
                AttributeValue::String(text) => ("text_value COLLATE \"C\"", Bind::Text(text.clone())),
                AttributeValue::Bool(flag) => ("flag_value", Bind::Number((*flag).into())),
                value => ("number_value", Bind::Float(number(value).unwrap_or_default())),
            };
            format!("{column} {operator} {}", conditions.bind(bind))
        })
        .collect();
    // For each room on the way, and never as a join, for which all attributes would be read first.
    conditions.sql += &format!(
        " AND (SELECT 1 FROM room_attributes WHERE room_attributes.server_id = servers.server_id \
         AND attribute_name = {name} AND ({}) LIMIT 1) > 0",
        any.join(" OR ")
    );
}
