CREATE TABLE documents (
    id bigserial PRIMARY KEY,
    target text NOT NULL,
    kind text NOT NULL,
    body jsonb NOT NULL,
    words tsvector NOT NULL,
    indexed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO documents (target, kind, body, words)
    SELECT 'target' || n % 50, 'seed', jsonb_build_object('n', n), to_tsvector('simple', 'document number ' || n)
    FROM generate_series(1, 20000) n;
CREATE INDEX documents_words ON documents USING gin (words);
CREATE INDEX documents_body ON documents USING gin (body);
CREATE INDEX documents_target ON documents (target);
-- The same as the one above, and one that no query uses: `deckwatch advise` finds both.
CREATE INDEX documents_target_again ON documents (target);
CREATE INDEX documents_indexed_at ON documents (indexed_at);
ANALYZE documents;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO monitor;
