//! The lines of events that the demo prints, `EVENT <who> <event> key=value …`.

/// One event that a process of the demo tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who tells it: a player's name or the server's.
    pub who: String,
    /// What happened, such as `race_finished`.
    pub name: String,
    /// Its details.
    pub fields: Vec<(String, String)>,
}

impl Event {
    /// The event told by `line`, if it tells one.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = words(line.strip_prefix("EVENT ")?).into_iter();
        let (who, name) = (words.next()?, words.next()?);
        let fields = words
            .map(|word| match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (String::new(), word),
            })
            .collect();
        Some(Self { who, name, fields })
    }

    /// The value of `key`.
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The event as a sentence for a person.
    pub fn sentence(&self) -> String {
        let field = |key: &str| self.field(key).unwrap_or("?");
        match self.name.as_str() {
            "server_started" => format!("dedicated server up on port {}", field("port")),
            "registered" => format!("registered with the backend as room {}", field("server_id")),
            "logged_in" => format!("logged in as {} ({})", field("name"), field("player")),
            "room_assigned" => format!("is the room {} now", field("name").replace('_', " ")),
            "creates_room" => format!("creates the room {} in the server browser", field("name")),
            "quick_play" => "presses Quick play in the server browser".to_owned(),
            "rooms_listed" => format!("asked for rooms: {} listed", field("count")),
            "ticket_received" => format!("got a join ticket for {}", field("room")),
            "connected" => "connected; not yet trusted".to_owned(),
            "verified" => "verified: RPCs may flow now".to_owned(),
            "player_verified" => format!("verified the ticket of {}", field("name")),
            "player_refused" => format!("refused a player: {}", field("code")),
            "progress_loaded" => {
                format!(
                    "loaded the progress of {}: {} wins, {} XP",
                    field("player"),
                    field("wins"),
                    field("xp")
                )
            }
            "race_started" => "the race is on".to_owned(),
            "halfway" => format!("{} is halfway; the hops are not saved yet", field("player")),
            "race_finished" => match self.field("place") {
                Some(place) => format!("finished the race, place {place}; winner: {}", field("winner")),
                None => format!("the race is over; winner: {}", field("winner")),
            },
            "progress" => {
                format!(
                    "progress: {} races, {} wins, {} XP, {} hops",
                    field("races"),
                    field("wins"),
                    field("xp"),
                    field("hops")
                )
            }
            "saved" => format!(
                "saved {} (version {}), acknowledged by the backend",
                field("player"),
                field("version")
            ),
            "player_left" => format!("{} left", field("player")),
            "left" => "left the server".to_owned(),
            "done" => "done".to_owned(),
            "draining" => format!("SIGTERM received: draining ({})", field("reason")),
            "flushed" => format!("flushed: {} saved, {} unsaved", field("saved"), field("unsaved")),
            "deregistered" => "deregistered: the room is off the list".to_owned(),
            "exiting" => "leaving with exit code 0".to_owned(),
            "failed" if self.field("code") == Some("disconnected") => field("message").replace('_', " "),
            "failed" => format!("FAILED: {} {}", field("code"), field("message")),
            other => {
                let details = self.fields.iter().map(|(key, value)| format!(" {key}={value}"));
                other.to_owned() + &details.collect::<String>()
            }
        }
    }
}

/// Splits at spaces outside double quotes, and drops the quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("starts with one").push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_values_with_spaces() {
        let event =
            Event::parse("EVENT \"Old Pond\" race_finished winner=\"Ada L\" ms=1200").expect("an event");
        assert_eq!((event.who.as_str(), event.name.as_str()), ("Old Pond", "race_finished"));
        assert_eq!(event.field("winner"), Some("Ada L"));
        assert_eq!(event.field("ms"), Some("1200"));
        assert_eq!(event.sentence(), "the race is over; winner: Ada L");
    }

    #[test]
    fn other_lines_tell_nothing() {
        for line in ["", "EVENT", "EVENT server", "Godot Engine v4.6", "a EVENT b c"] {
            assert_eq!(Event::parse(line), None, "{line}");
        }
    }

    #[test]
    fn an_unknown_event_is_shown_as_it_is() {
        let event = Event::parse("EVENT server slept seconds=3").expect("an event");
        assert_eq!(event.sentence(), "slept seconds=3");
    }
}
