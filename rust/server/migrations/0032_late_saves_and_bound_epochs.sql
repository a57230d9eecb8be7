-- Who sent a save that is kept as a conflict: only the same line of keys replaces it. NULL: kept by an earlier build.
ALTER TABLE save_conflicts ADD COLUMN key_hash TEXT;
-- 1: no row said that this line of keys had the epoch: the database went back, or an earlier build gave the epoch. Such a save
-- displaces none, and is the first that is displaced.
ALTER TABLE save_conflicts ADD COLUMN unrecorded BIGINT NOT NULL DEFAULT 0;

-- Since when epochs are bound to lines of keys. Those of before belong to nobody any more once their time is over; then
-- `done` is 1.
CREATE TABLE epochs_bound (
    id    BIGINT PRIMARY KEY,
    since BIGINT NOT NULL,
    done  BIGINT NOT NULL DEFAULT 0
);
