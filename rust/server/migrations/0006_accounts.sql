-- Several ways to log in to one account, addresses that are verified, and tokens that end before their time.

-- An address that counts once a code sent to it has come back; any number of accounts may wait for the same one.
ALTER TABLE players ADD COLUMN pending_email TEXT;
ALTER TABLE players ADD COLUMN email_verified_at BIGINT;
-- Access tokens and tickets issued at or before this second are not good.
ALTER TABLE players ADD COLUMN tokens_before BIGINT NOT NULL DEFAULT 0;
-- NULL with banned_at: for good.
ALTER TABLE players ADD COLUMN banned_until BIGINT;
ALTER TABLE players ADD COLUMN ban_reason TEXT;

-- Who a platform says the player is.
CREATE TABLE identities (
    provider  TEXT NOT NULL,
    subject   TEXT NOT NULL,
    player_id TEXT NOT NULL REFERENCES players (player_id),
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (provider, subject),
    UNIQUE (player_id, provider)
);

-- Codes in mails, of which only a hash is kept. A newer one replaces the older.
CREATE TABLE mail_codes (
    player_id  TEXT NOT NULL REFERENCES players (player_id),
    purpose    TEXT NOT NULL,
    code_hash  TEXT NOT NULL UNIQUE,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (player_id, purpose)
);
CREATE INDEX mail_codes_expiry ON mail_codes (expires_at);

CREATE INDEX sessions_of_player ON sessions (player_id);
