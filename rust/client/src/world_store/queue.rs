//! First come, first served, with one place per name: who comes again keeps the place, so that nobody who changes all the
//! time stays behind for ever.

use std::collections::{BTreeMap, HashMap};

pub struct Queue<T> {
    by_ticket: BTreeMap<u64, (String, T)>,
    tickets: HashMap<String, u64>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { by_ticket: BTreeMap::new(), tickets: HashMap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    /// Appends, or takes the place of what was queued under this name before, which it gives.
    pub fn push(&mut self, name: &str, item: T) -> Option<T> {
        if let Some((_, queued)) = self.tickets.get(name).and_then(|ticket| self.by_ticket.get_mut(ticket)) {
            return Some(std::mem::replace(queued, item));
        }
        self.tickets.insert(name.to_owned(), self.next);
        self.by_ticket.insert(self.next, (name.to_owned(), item));
        self.next += 1;
        None
    }

    pub fn remove(&mut self, name: &str) -> Option<T> {
        let ticket = self.tickets.remove(name)?;
        self.by_ticket.remove(&ticket).map(|(_, item)| item)
    }

    pub fn get(&self, name: &str) -> Option<&T> {
        self.by_ticket.get(self.tickets.get(name)?).map(|(_, item)| item)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.by_ticket.get_mut(self.tickets.get(name)?).map(|(_, item)| item)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tickets.contains_key(name)
    }

    pub fn pop(&mut self) -> Option<(String, T)> {
        let (_, (name, item)) = self.by_ticket.pop_first()?;
        self.tickets.remove(&name);
        Some((name, item))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.by_ticket.values().map(|(name, item)| (name.as_str(), item))
    }

    pub fn len(&self) -> usize {
        self.by_ticket.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }
}
