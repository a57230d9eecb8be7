//! E-mail addresses: the form they are kept and compared in, and which mailbox they lead to.

use backend_protocol::unicode;

/// An address as it is kept and compared: without blanks around it, composed, in lower case.
pub fn normalized(typed: &str) -> String {
    unicode::composed(typed.trim()).to_lowercase()
}

/// The mailbox that `address` leads to, for counting mails to it: without what is behind a `+`, which most providers deliver to
/// the same person, and with the domain as it is looked up.
pub fn mailbox(address: &str) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else { return address.to_owned() };
    let local = local.split('+').next().filter(|local| !local.is_empty()).unwrap_or(local);
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_owned());
    format!("{local}@{domain}")
}

#[cfg(test)]
mod tests;
