//! The backend's contract, over real HTTP, each test against SQLite and against PostgreSQL.

mod accounts;
mod admin;
mod attacks;
mod bad_input;
mod conflicts;
mod harness;
mod health;
mod lease_owners;
mod leases;
mod limits;
mod mail;
mod openapi;
mod player_store;
mod program;
mod registration;
mod repeated_requests;
mod room_access;
mod rooms;
mod seats;
mod server_keys;
mod session;
mod signing_keys;
mod text;
mod validation;
mod world_store;
