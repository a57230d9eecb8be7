//! The public Source query protocol: what a question is, and the answers' bytes.

use backend_protocol::registration::ServerStatus;

use super::facts::{MAX_PARTICIPANTS, ServedFacts};

/// Begins a datagram that is whole.
pub const HEADER: [u8; 4] = [0xff; 4];
/// Begins a part of an answer that took several datagrams.
const SPLIT: [u8; 4] = [0xfe, 0xff, 0xff, 0xff];
/// What asks for a challenge in place of one.
pub const NO_CHALLENGE: [u8; 4] = [0xff; 4];
/// Most bytes of a datagram, as the protocol has it.
pub const MAX_DATAGRAM: usize = 1_400;
/// Header, id, number of parts, index and size.
const SPLIT_HEADER: usize = 12;
const INFO_TEXT: &[u8] = b"Source Engine Query\0";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A2S_INFO.
    Info,
    /// A2S_PLAYER.
    Players,
    /// A2S_RULES.
    Rules,
}

impl Question {
    /// The question and the challenge that it shows, if it is one. A question without room for a challenge is none: its answer, a
    /// challenge of nine bytes, would be larger. A2S_INFO alone has its text for that.
    pub fn decode(datagram: &[u8]) -> Option<(Self, Option<[u8; 4]>)> {
        let (kind, body) = datagram.strip_prefix(&HEADER)?.split_first()?;
        let (question, challenge) = match kind {
            0x54 => (Self::Info, body.strip_prefix(INFO_TEXT)?),
            0x55 => (Self::Players, body),
            0x56 => (Self::Rules, body),
            _ => return None,
        };
        let challenge = match (challenge.first_chunk::<4>(), question) {
            (Some(challenge), _) => Some(*challenge).filter(|challenge| *challenge != NO_CHALLENGE),
            (None, Self::Info) => None,
            (None, _) => return None,
        };
        Some((question, challenge))
    }

    /// The answer, in one piece.
    pub(super) fn answer(self, served: &ServedFacts<'_>) -> Vec<u8> {
        match self {
            Self::Info => info(served),
            Self::Players => players(served),
            Self::Rules => rules(served),
        }
    }
}

/// The answer to whoever has not proven their address.
pub(super) fn challenge(challenge: [u8; 4]) -> Vec<u8> {
    [&HEADER[..], b"A", &challenge].concat()
}

/// The datagrams that carry `answer`, under `id` if it takes several.
pub(super) fn split(answer: Vec<u8>, id: u32) -> Vec<Vec<u8>> {
    const PART: usize = MAX_DATAGRAM - SPLIT_HEADER;
    if answer.len() <= MAX_DATAGRAM {
        return vec![answer];
    }
    // Far below 255: there is a limit on every text, and on the number of players.
    let total = u8::try_from(answer.len().div_ceil(PART)).unwrap_or(u8::MAX);
    let parts = answer.chunks(PART).zip(0..total);
    parts
        .map(|(part, index)| {
            let size = (PART as u16).to_le_bytes();
            [&SPLIT[..], &(id & 0x7fff_ffff).to_le_bytes(), &[total, index], &size, part].concat()
        })
        .collect()
}

fn info(served: &ServedFacts<'_>) -> Vec<u8> {
    const HAS_PORT: u8 = 0x80;
    const HAS_KEYWORDS: u8 = 0x20;
    let (facts, described) = (served.facts, &served.facts.description);
    let mut answer = [&HEADER[..], b"I", &[17]].concat();
    text(&mut answer, &described.name);
    text(&mut answer, &described.map);
    // The folder of the game's files, which says nothing here.
    text(&mut answer, "");
    text(&mut answer, &facts.game);
    answer.extend(0u16.to_le_bytes());
    // Nobody is a bot, as far as this end knows.
    answer.extend([byte(facts.players), byte(described.max_players), 0, b'd', environment()]);
    // Valve's cheat protection is not there.
    answer.extend([u8::from(!described.password.is_empty()), 0]);
    text(&mut answer, &described.version);
    answer.push(HAS_PORT | HAS_KEYWORDS);
    answer.extend(described.port.to_le_bytes());
    let mut keywords = described.tags.clone();
    if served.status != ServerStatus::Ready {
        keywords.insert(0, format!("status:{}", served.status_word()));
    }
    text(&mut answer, &keywords.join(","));
    answer
}

fn players(served: &ServedFacts<'_>) -> Vec<u8> {
    let participants = served.facts.participants.iter().take(MAX_PARTICIPANTS);
    let mut answer = [&HEADER[..], b"D", &[byte(participants.len() as u32)]].concat();
    for (index, participant) in (0u8..=u8::MAX).zip(participants) {
        answer.push(index);
        text(&mut answer, &participant.name);
        answer.extend(0i32.to_le_bytes());
        let seconds = served.now.saturating_duration_since(participant.joined).as_secs_f32();
        answer.extend(seconds.to_le_bytes());
    }
    answer
}

fn rules(served: &ServedFacts<'_>) -> Vec<u8> {
    let (facts, described) = (served.facts, &served.facts.description);
    // Beyond 255, A2S_INFO cannot count.
    let (players, max_players) = (facts.players.to_string(), described.max_players.to_string());
    let rules = [
        ("max_players", max_players.as_str()),
        ("mode", &described.mode),
        ("players", &players),
        ("region", &described.region),
        ("room_id", facts.public_room_id()),
        ("status", served.status_word()),
        ("version", &described.version),
    ];
    let mut answer = [&HEADER[..], b"E"].concat();
    answer.extend((rules.len() as u16).to_le_bytes());
    for (name, value) in rules {
        text(&mut answer, name);
        text(&mut answer, value);
    }
    answer
}

/// A text with its end. A NUL within would end it early.
fn text(answer: &mut Vec<u8>, value: &str) {
    answer.extend(value.bytes().filter(|byte| *byte != 0));
    answer.push(0);
}

fn byte(count: u32) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

const fn environment() -> u8 {
    if cfg!(windows) {
        b'w'
    } else if cfg!(target_os = "macos") {
        b'm'
    } else {
        b'l'
    }
}
