//! Why a connection to the relay ends.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $word:literal;)+) => {
        /// Why a connection ends: its number is the error code with which a QUIC connection is closed (RFC 9000 §10.2), and is in
        /// `left` and `ended`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl CloseReason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The number on the wire.
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)+ }
            }

            /// The word that scripts match on.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

reasons! {
    /// The player left.
    Left = 0, "left";
    /// The connection was lost, or a player did not answer any more.
    ConnectionLost = 1, "connection_lost";
    /// The host removed the player.
    Kicked = 2, "kicked";
    /// The host is gone: the room is over.
    HostLeft = 3, "host_left";
    /// The operator has ended the room, or the backend lists it no more.
    RoomEnded = 4, "room_ended";
    /// The relay stops.
    RelayStopping = 5, "relay_stopping";
    /// The player was banned, or their session has ended.
    Revoked = 6, "revoked";
    /// The same player has joined with another connection.
    JoinedAgain = 7, "joined_again";
    /// The player read too slowly: more was waiting than the relay keeps.
    TooSlow = 8, "too_slow";
    /// What was sent is not of this protocol.
    ProtocolError = 9, "protocol_error";
    /// The relay speaks another version.
    UnsupportedVersion = 10, "unsupported_version";
    /// The ticket does not verify, has expired, or is for another room.
    TicketInvalid = 11, "ticket_invalid";
    /// The ticket was used before.
    TicketUsed = 12, "ticket_used";
    /// The relay has no such room (any more).
    RoomUnknown = 13, "room_unknown";
    /// The host has not connected yet.
    HostAbsent = 14, "host_absent";
    /// The room is full, or the host accepts nobody at the moment.
    RoomClosed = 15, "room_closed";
    /// No `join` came in time.
    JoinTimeout = 16, "join_timeout";
    /// The relay has as many connections as it takes.
    RelayFull = 17, "relay_full";
}

impl CloseReason {
    /// The reason with this number. One of a newer relay is a lost connection.
    pub fn from_number(number: u64) -> Self {
        let known = Self::ALL.iter().copied().find(|reason| u64::from(reason.number()) == number);
        known.unwrap_or(Self::ConnectionLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_unique() {
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_number(reason.number().into()), *reason);
            assert_eq!(CloseReason::ALL.iter().filter(|one| one.as_str() == reason.as_str()).count(), 1);
        }
        assert_eq!(CloseReason::from_number(u64::MAX), CloseReason::ConnectionLost);
    }
}
