-- The ticket for which a request has reserved a seat: the seat that its cancellation gives back. NULL: none yet.
ALTER TABLE room_requests ADD COLUMN ticket_id TEXT;
