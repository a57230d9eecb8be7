//! What is answered to whom: no socket, no clock of its own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::challenge::Challenges;
use super::facts::ServedFacts;
use super::rate_limit::RateLimit;
use super::{ping, source};

/// Longest question that is looked at: what fits into one Ethernet frame. A datagram that had to be fragmented is none.
pub const MAX_QUESTION: usize = 1_472;

/// Answers datagrams. Its memory does not grow.
pub struct Responder {
    challenges: Challenges,
    rate_limit: RateLimit,
    split_answers: u32,
}

impl Default for Responder {
    fn default() -> Self {
        Self::new()
    }
}

impl Responder {
    /// A responder with a key of its own.
    pub fn new() -> Self {
        Self { challenges: Challenges::new(), rate_limit: RateLimit::new(), split_answers: 0 }
    }

    /// The datagrams to send back, none for what is no question, comes too often or from where no answer should go. `now` is the time
    /// since the responder was made.
    pub fn respond(
        &mut self,
        now: Duration,
        peer: SocketAddr,
        datagram: &[u8],
        served: &ServedFacts<'_>,
    ) -> Vec<Vec<u8>> {
        if datagram.len() > MAX_QUESTION || !is_answerable(peer) {
            return Vec::new();
        }
        if let Some(question) = ping::Question::decode(datagram) {
            if matches!(question, ping::Question::Room(_)) && !served.facts.is_public() {
                // Only who was invited finds it.
                return Vec::new();
            }
            return self.limited(now, peer, || vec![question.answer(served)]);
        }
        let Some((question, shown)) = source::Question::decode(datagram) else { return Vec::new() };
        if !shown.is_some_and(|shown| self.challenges.is_met(peer, now, shown)) {
            let challenge = self.challenges.issue(peer, now);
            return self.limited(now, peer, || vec![source::challenge(challenge)]);
        }
        self.split_answers = self.split_answers.wrapping_add(1);
        let id = self.split_answers;
        self.limited(now, peer, || source::split(question.answer(served), id))
    }

    fn limited(
        &mut self,
        now: Duration,
        peer: SocketAddr,
        answer: impl FnOnce() -> Vec<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        if !self.rate_limit.allows(peer.ip(), now) {
            return Vec::new();
        }
        let datagrams = answer();
        self.rate_limit.count(peer.ip(), datagrams.len());
        datagrams
    }
}

/// Whether an answer to `peer` would go to one machine.
fn is_answerable(peer: SocketAddr) -> bool {
    let is_broadcast = matches!(peer.ip().to_canonical(), IpAddr::V4(address) if address.is_broadcast());
    peer.port() != 0
        && !peer.ip().is_unspecified()
        && !peer.ip().to_canonical().is_multicast()
        && !is_broadcast
}
