-- From where a password was right before: strangers' wrong ones do not block these addresses. Only a hash of player and
-- address is kept.
CREATE TABLE familiar_addresses (
    player_id    TEXT NOT NULL REFERENCES players (player_id),
    address_hash TEXT NOT NULL,
    seen_at      BIGINT NOT NULL,
    PRIMARY KEY (player_id, address_hash)
);
CREATE INDEX familiar_addresses_seen ON familiar_addresses (seen_at);
