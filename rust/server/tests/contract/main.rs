//! The backend's contract, over real HTTP, each test against SQLite and against PostgreSQL.

mod bad_input;
mod harness;
mod health;
mod openapi;
mod player_store;
mod registration;
mod rooms;
mod session;
mod validation;
