"""The settings of Celery's events, the same for each broker."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from deckwatch.exporter import Duration, Settings

from .celery_events_state import HostnameLabel


class CeleryEventsSettings(Settings):
    """What to learn from workers: their events, and what they say when they are asked."""

    events: bool = Field(default=False, description="Receive the events of tasks and workers (`celery worker -E`).")
    hostname_label: HostnameLabel = Field(
        default="host",
        description="The label `hostname` of events: the worker's name, its part after @, or nothing for tasks.",
    )
    default_queue_name: str = Field(
        default="celery",
        description="The label `queue_name` of tasks for which no event names a queue: Celery's `task_default_queue`.",
    )
    worker_timeout: Annotated[
        Duration, Field(description="Time without a heartbeat after which celery_worker_up is 0.")
    ] = 60.0
    purge_workers_after: Annotated[
        Duration, Field(description="Time without a heartbeat after which a worker's series disappear.")
    ] = 600.0

    ask_workers: bool = Field(
        default=False,
        description="Ask workers for their queues and processes over remote control, which writes to the broker.",
    )

    @model_validator(mode="after")
    def _down_before_purged(self) -> CeleryEventsSettings:
        if self.purge_workers_after <= self.worker_timeout:
            raise ValueError("purge_workers_after longer than worker_timeout")
        return self
