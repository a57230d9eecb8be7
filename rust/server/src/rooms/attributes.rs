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
    // A number is bound for each row, and stored for those that are numbers: sqlx gives an absent f64 the type of an f32
    // (sqlx-core 0.9, `any/arguments.rs`), and PostgreSQL then refuses the next f64 of the same statement.
    let rows: Vec<String> = (0..attributes.len())
        .map(|row| {
            let name = row * 5 + 2;
            let (is_number, number, text, flag) = (name + 1, name + 2, name + 3, name + 4);
            format!("($1, ${name}, CASE WHEN ${is_number} = 1 THEN ${number} END, ${text}, ${flag})")
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
        let number = number(value);
        statement = statement
            .bind(name.as_str())
            .bind(i64::from(number.is_some()))
            .bind(number.unwrap_or_default())
            .bind(text)
            .bind(flag);
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
