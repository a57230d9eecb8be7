//! The schema: the files of `migrations/`, in their order.

use sqlx::migrate::Migrator;

pub static MIGRATIONS: Migrator = sqlx::migrate!();

#[cfg(test)]
mod tests;
