//! What can happen.

use std::fmt;
use std::str::FromStr;

/// What a webhook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A message arrived.
    Incoming,
    /// The next host took the message. That need not mean that it is in a mailbox.
    Delivered,
    /// The message was not sent, as its recipient is on the suppression list.
    Suppressed,
    /// An attempt failed, and others follow.
    Delayed,
    /// The message was given up.
    Failed,
    /// The message went to a host that sends no notifications.
    Relayed,
    /// The message went to the members of a list, each of which may bring further notifications.
    Expanded,
    /// The message was taken out of the queue.
    Canceled,
    /// Something arrived at the address that only this message was sent from, and it is not known what it means.
    Unrecognized,
}

/// A name that no event has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEvent(String);

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Event::ALL.map(Event::name).join(", ");
        write!(f, "{:?} is not an event: these are {names}", self.0)
    }
}

impl std::error::Error for UnknownEvent {}

impl Event {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Incoming,
        Self::Delivered,
        Self::Suppressed,
        Self::Delayed,
        Self::Failed,
        Self::Relayed,
        Self::Expanded,
        Self::Canceled,
        Self::Unrecognized,
    ];

    /// As it is written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Delivered => "delivered",
            Self::Suppressed => "suppressed",
            Self::Delayed => "delayed",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Canceled => "canceled",
            Self::Unrecognized => "unrecognized",
        }
    }

    /// What the Action of a delivery status notification means (RFC 3464 §2.3.3).
    #[must_use]
    pub fn of_action(action: &str) -> Self {
        match action {
            "failed" => Self::Failed,
            "delayed" => Self::Delayed,
            "delivered" => Self::Delivered,
            "relayed" => Self::Relayed,
            "expanded" => Self::Expanded,
            _ => Self::Unrecognized,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let event = Self::ALL.into_iter().find(|event| event.name() == text);
        event.ok_or_else(|| UnknownEvent(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for event in Event::ALL {
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        assert!("bounced".parse::<Event>().unwrap_err().to_string().contains("canceled"));
        assert_eq!(Event::of_action("relayed"), Event::Relayed);
        assert_eq!(Event::of_action("incoming"), Event::Unrecognized);
    }
}
