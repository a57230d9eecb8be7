//! `BackendMatchOptions`: what a player searches a match with.

use std::collections::BTreeMap;

use backend_client::error::ClientError;
use backend_client::protocol::matchmaking::{
    AttributeValue, CreateMatchmakingTicket, JoinParty, MatchmakingPlayer,
};
use godot::builtin::VariantType;
use godot::prelude::*;

/// Settings of a search for a match: attributes, latencies and the size of the party.
///
/// ```gdscript
/// var options := BackendMatchOptions.new()
/// options.attributes = {"skill": 1500, "mode": "capture"}
/// options.latencies = {"eu-west": 20, "us-east": 95}
/// var found: BackendMatch = await $BackendMatchmaker.find_match(options).wait()
/// ```
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendMatchOptions {
    /// Attributes by name, as the rule set declares them: a number, a [String], a list of [String]s, or a [Dictionary] with
    /// [String] keys and numbers. The backend does not verify them. For values that matter, such as a rank, let a game server
    /// create the tickets.
    #[export]
    attributes: VarDictionary,
    /// Latency to each region in milliseconds, by the region's name. Required if the rule set has a [code]latency[/code] rule.
    #[export]
    latencies: VarDictionary,
    /// Number of players who play together. If it is more than 1, the search starts when the others have joined with
    /// [method BackendMatchmaker.join_party].
    #[export(range = (1.0, 200.0))]
    #[init(val = 1)]
    party_size: i64,
}

impl BackendMatchOptions {
    /// The request for a ticket.
    pub fn to_ticket(
        options: Option<&Gd<Self>>,
        matchmaker: String,
    ) -> Result<CreateMatchmakingTicket, ClientError> {
        let JoinParty { attributes, latency_ms } = Self::to_party_member(options)?;
        let party_size = options.map_or(1, |options| options.bind().party_size);
        let party_size =
            u32::try_from(party_size).map_err(|_| ClientError::field("party_size", "must be 1 to 200"))?;
        Ok(CreateMatchmakingTicket {
            matchmaker,
            players: vec![MatchmakingPlayer { attributes, latency_ms, ..MatchmakingPlayer::default() }],
            party_size: Some(party_size),
            backfill_server_id: None,
        })
    }

    /// The request to join a party.
    pub fn to_party_member(options: Option<&Gd<Self>>) -> Result<JoinParty, ClientError> {
        let Some(options) = options else { return Ok(JoinParty::default()) };
        let options = options.bind();
        Ok(JoinParty {
            attributes: named("attributes", &options.attributes, attribute)?,
            latency_ms: named("latencies", &options.latencies, latency)?,
        })
    }
}

/// The entries of a dictionary whose keys are names.
fn named<T>(
    field: &str,
    dictionary: &VarDictionary,
    read: impl Fn(&str, &Variant) -> Result<T, ClientError>,
) -> Result<BTreeMap<String, T>, ClientError> {
    let entry = |(name, value): (Variant, Variant)| match name.get_type() {
        VariantType::STRING | VariantType::STRING_NAME => {
            let name = name.stringify().to_string();
            let value = read(&name, &value)?;
            Ok((name, value))
        }
        _ => Err(ClientError::field(field, "must have Strings as keys")),
    };
    dictionary.iter_shared().map(entry).collect()
}

fn attribute(name: &str, value: &Variant) -> Result<AttributeValue, ClientError> {
    let refuse = |rule: &str| ClientError::field(format!("attributes.{name}"), rule);
    match value.get_type() {
        VariantType::INT | VariantType::FLOAT => {
            number(value).map(AttributeValue::Number).ok_or_else(|| refuse("must be a finite number"))
        }
        VariantType::STRING | VariantType::STRING_NAME => {
            Ok(AttributeValue::Text(value.stringify().to_string()))
        }
        VariantType::PACKED_STRING_ARRAY => {
            let list = value.to::<PackedStringArray>();
            Ok(AttributeValue::TextList(list.as_slice().iter().map(ToString::to_string).collect()))
        }
        VariantType::ARRAY => {
            let rule = "must have Strings only";
            let list = value.try_to::<AnyArray>().map_err(|_| refuse(rule))?;
            let text = |value: Variant| match value.get_type() {
                VariantType::STRING | VariantType::STRING_NAME => Ok(value.stringify().to_string()),
                _ => Err(refuse(rule)),
            };
            list.iter_shared().map(text).collect::<Result<_, _>>().map(AttributeValue::TextList)
        }
        VariantType::DICTIONARY => {
            let map = value.try_to::<VarDictionary>().map_err(|_| refuse("must be an untyped Dictionary"))?;
            let finite = |_key: &str, value: &Variant| {
                number(value).ok_or_else(|| refuse("must have finite numbers as values"))
            };
            named(&format!("attributes.{name}"), &map, finite).map(AttributeValue::NumberMap)
        }
        other => Err(refuse(&format!(
            "must be a number, a String, a list of Strings or a Dictionary of numbers, is a value of type {other:?}"
        ))),
    }
}

fn number(value: &Variant) -> Option<f64> {
    let number = match value.get_type() {
        VariantType::INT => value.to::<i64>() as f64,
        VariantType::FLOAT => value.to::<f64>(),
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn latency(region: &str, value: &Variant) -> Result<u32, ClientError> {
    let rule = || ClientError::field(format!("latencies.{region}"), "must be 0 to 100000 milliseconds");
    let milliseconds = number(value).ok_or_else(rule)?.round();
    if !(0.0..=100_000.0).contains(&milliseconds) {
        return Err(rule());
    }
    Ok(milliseconds as u32)
}
