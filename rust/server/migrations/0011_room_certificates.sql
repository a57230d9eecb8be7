-- What players have to insist on when they connect. PEM.
ALTER TABLE servers ADD COLUMN certificate TEXT;
