CREATE TABLE studies (id serial PRIMARY KEY, title text NOT NULL, topic text NOT NULL);
INSERT INTO studies (title, topic) SELECT 'study ' || n, 'topic' || n % 10 FROM generate_series(1, 500) n;
CREATE INDEX ON studies (topic);
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO monitor;
