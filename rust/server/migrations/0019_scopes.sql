-- Players and worlds belong to the game and environment they were made in, written `game/environment`. NULL: made by an
-- earlier build, on a database of several; all of them may use it, as before.
ALTER TABLE players ADD COLUMN scope TEXT;
ALTER TABLE worlds ADD COLUMN scope TEXT;
