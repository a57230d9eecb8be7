-- Which backend this is. Whoever keeps unsent saves on a disk of its own remembers whose they are, so that they are sent to
-- no other one. Made at the first start; a backup has it, and so has whatever is restored from it.

CREATE TABLE backend_identity (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    backend_id TEXT NOT NULL
);
