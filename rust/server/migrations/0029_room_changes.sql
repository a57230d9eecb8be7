-- Who follows a room list reads what has changed since it read last. One row for each room that is or was on a list: the last change.
-- Beside the servers, because the index moves with each change.
CREATE TABLE room_changes (
    -- Without a reference: the row outlives the server's.
    room_id    TEXT PRIMARY KEY,
    key_hash   TEXT NOT NULL,
    -- Grows. On SQLite a counter; on PostgreSQL the id of the transaction, because transactions commit in any order, and only the
    -- database knows below which id all have ended.
    change     BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- 1: on lists after this change. 0: gone, or not public any more.
    listed     BIGINT NOT NULL
);
INSERT INTO room_changes (room_id, key_hash, change, changed_at, listed)
    SELECT server_id, key_hash, 0, 0, 1 FROM servers WHERE visibility = 'public' AND lease_until > 0;
CREATE INDEX room_changes_order ON room_changes (change);

-- Whether the last heartbeat changed what lists show.
ALTER TABLE servers ADD COLUMN heartbeat_changed BIGINT;
