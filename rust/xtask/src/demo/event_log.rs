//! What the processes of the demo have reported so far.

use std::collections::BTreeMap;

use super::event::Event;

/// Prints events and keeps them.
#[derive(Default)]
pub struct EventLog {
    step: usize,
    events: Vec<(&'static str, Event)>,
    /// Names of players and the room by their ids: ids tell a person little.
    names: BTreeMap<String, String>,
}

impl EventLog {
    /// Prints one step.
    pub fn emit(&mut self, who: &str, what: &str) {
        self.step += 1;
        println!("{:3}. {who:8} {what}", self.step);
    }

    /// Emits the events among the lines that a process has printed. `room` is the name of the room.
    pub fn catch_up(&mut self, who: &'static str, room: &str, lines: &[String]) {
        for event in lines.iter().filter_map(|line| Event::parse(line)) {
            let sentence = event.sentence();
            let named = match event.name.as_str() {
                "logged_in" | "registered" => sentence,
                _ => self.names.iter().fold(sentence, |text, (id, name)| text.replace(id, name)),
            };
            self.emit(who, &named);
            let name = if event.name == "registered" { Some(room) } else { event.field("name") };
            if let (Some(id), Some(name)) = (event.field("player").or(event.field("server_id")), name) {
                self.names.insert(id.to_owned(), name.to_owned());
            }
            self.events.push((who, event));
        }
    }

    /// How often `who` has reported `event`.
    pub fn count(&self, who: &str, event: &str) -> usize {
        self.of(who).filter(|known| known.name == event).count()
    }

    /// Whether `who` has reported `event`.
    pub fn has(&self, who: &str, event: &str) -> bool {
        self.count(who, event) > 0
    }

    /// The number in the last `event` of `who`.
    pub fn number(&self, who: &str, event: &str, field: &str) -> Option<i64> {
        self.of(who).filter(|known| known.name == event).last()?.field(field)?.parse().ok()
    }

    fn of<'a>(&'a self, who: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |(source, _)| *source == who).map(|(_, event)| event)
    }
}
