CREATE TABLE records (id serial PRIMARY KEY, name text NOT NULL, amount int NOT NULL);
INSERT INTO records (name, amount) SELECT 'record ' || n, n % 97 FROM generate_series(1, 20000) n;
CREATE TABLE migrated (record int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO monitor;
