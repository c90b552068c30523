CREATE TABLE events (
    id bigserial PRIMARY KEY,
    type text NOT NULL,
    payload jsonb NOT NULL,
    batch text,
    processed boolean NOT NULL DEFAULT false,
    processing_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz
);
CREATE INDEX ON events (type) WHERE NOT processed;
GRANT SELECT ON events TO monitor;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO monitor;
