//! What the processes of the demo have told so far.

use std::collections::BTreeMap;

use super::event::Event;

/// Prints the story and remembers it.
#[derive(Default)]
pub struct EventLog {
    step: usize,
    told: Vec<(&'static str, Event)>,
    /// Names of players and the room by their ids: ids tell a person little.
    names: BTreeMap<String, String>,
}

impl EventLog {
    /// Tells a step of the story.
    pub fn tell(&mut self, who: &str, what: &str) {
        self.step += 1;
        println!("{:3}. {who:8} {what}", self.step);
    }

    /// Tells the events among the lines that a process has printed. `room` is the name of the room.
    pub fn catch_up(&mut self, who: &'static str, room: &str, lines: &[String]) {
        for event in lines.iter().filter_map(|line| Event::parse(line)) {
            let sentence = event.sentence();
            let named = match event.name.as_str() {
                "logged_in" | "registered" => sentence,
                _ => self.names.iter().fold(sentence, |text, (id, name)| text.replace(id, name)),
            };
            self.tell(who, &named);
            let name = if event.name == "registered" { Some(room) } else { event.field("name") };
            if let (Some(id), Some(name)) = (event.field("player").or(event.field("server_id")), name) {
                self.names.insert(id.to_owned(), name.to_owned());
            }
            self.told.push((who, event));
        }
    }

    /// How often `who` has told `event`.
    pub fn count(&self, who: &str, event: &str) -> usize {
        self.of(who).filter(|told| told.name == event).count()
    }

    /// Whether `who` has told `event`.
    pub fn has(&self, who: &str, event: &str) -> bool {
        self.count(who, event) > 0
    }

    /// The number in the last `event` of `who`.
    pub fn number(&self, who: &str, event: &str, field: &str) -> Option<i64> {
        self.of(who).filter(|told| told.name == event).last()?.field(field)?.parse().ok()
    }

    fn of<'a>(&'a self, who: &'a str) -> impl Iterator<Item = &'a Event> {
        self.told.iter().filter(move |(teller, _)| *teller == who).map(|(_, event)| event)
    }
}
