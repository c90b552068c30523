"""Accepts events, stores them, and leaves the rest to the workers."""

import os
import uuid

import database
import tasks
from fastapi import FastAPI
from pydantic import BaseModel

import deckwatch
from deckwatch import health

deckwatch.setup_logging(file=os.path.join(os.environ["LOG_DIR"], "api.json"))
app = FastAPI()
app.add_middleware(deckwatch.AsgiMiddleware, slow_request_seconds=0.5)
app.mount("/health", health.asgi_app())


def _database():
    with database.connection() as connection:
        connection.execute("SELECT 1")


health.register("database", _database)


class Event(BaseModel):
    type: str
    payload: dict = {}


def _store(events, batch=None):
    with database.connection() as connection:
        return [
            connection.execute(
                "INSERT INTO events (type, payload, batch) VALUES (%s, %s::jsonb, %s) RETURNING id",
                (event.type, event.model_dump_json(include={"payload"}), batch),
            ).fetchone()[0]
            for event in events
        ]


@app.post("/events", status_code=202)
def accept(event: Event):
    (number,) = _store([event])
    tasks.process.delay(number)
    deckwatch.event("event.accepted", category="business", event_id=number, type=event.type, path="/events")
    return {"id": number}


@app.post("/events/batch", status_code=202)
def accept_batch(events: list[Event]):
    batch = uuid.uuid4().hex
    numbers = _store(events, batch)
    tasks.process_batch.delay(numbers, batch)
    deckwatch.event("batch.accepted", category="business", batch=batch, size=len(numbers), path="/events/batch")
    return {"batch": batch, "ids": numbers}
