//! Which access tokens count as expired, although they are not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use backend_token::Unverified;

use super::faults::Faults;

/// Tokens that are remembered; after that, all are forgotten.
const MAX_TOKENS: usize = 10_000;

/// When each token was sent for the first time, as a number of expirations.
///
/// The time in a token is not enough: it counts seconds, and the token that replaces an expired one may be issued in the same.
#[derive(Default)]
pub struct TokenExpiry(Mutex<HashMap<String, u64>>);

impl TokenExpiry {
    /// Whether this bearer token is a player's, and was issued before the tokens were expired.
    pub fn is_expired(&self, token: &str, faults: &Faults) -> bool {
        let Some(issued_at) = Unverified::parse(token).ok().and_then(|token| token.issued_at()) else {
            return false;
        };
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS && !tokens.contains_key(token) {
            tokens.clear();
        }
        let known = tokens
            .entry(token.to_owned())
            .or_insert_with(|| if issued_at < faults.expired_at { 0 } else { faults.expirations });
        *known < faults.expirations
    }
}
