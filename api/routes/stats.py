"""GET /stats: the last hour in minutes."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import ANY_SCOPE, JobQueueDep, ScopedRoute, SettingsDep
from api.problems import openapi_problems
from client.rq.stats import last_hour, quantile

router = APIRouter(route_class=ScopedRoute, tags=["health"])


class Numbers(BaseModel):
    """The numbers of the whole service in some time. No number tells whose the jobs are."""

    queued: int = Field(description="Jobs accepted: questions, and work on documents.")
    answered: int = Field(description="Questions answered.")
    failed: int = Field(description="Questions that failed, or were cancelled while they ran.")
    cancelled: int = Field(description="Questions cancelled before they ran.")
    p50_seconds: float | None = Field(description="Half of the answers came within this time after the question.")
    p95_seconds: float | None = Field(description="95 % of the answers came within this time.")


class Minute(Numbers):
    at: datetime = Field(description="Beginning of the minute.")
    backlog: int = Field(description="Jobs that waited or ran at the end of the minute: questions, and documents.")


class Stats(BaseModel):
    """The last hour in minutes, oldest first; the last minute is under way."""

    minutes: list[Minute]
    total: Numbers


@router.get("/stats", dependencies=ANY_SCOPE, responses=openapi_problems(503))
async def stats(queue: JobQueueDep, settings: SettingsDep) -> Stats:
    """Count what was asked and answered in each minute of the last hour, and how long answers took."""
    minutes = await last_hour(queue.valkey, ttl_seconds=settings.result_ttl_seconds)
    return Stats(
        minutes=[
            Minute(
                at=minute.at,
                backlog=minute.backlog,
                queued=minute.queued,
                answered=minute.answered,
                failed=minute.failed,
                cancelled=minute.cancelled,
                **_quantiles(minute.latencies),
            )
            for minute in minutes
        ],
        total=Numbers(
            queued=sum(minute.queued for minute in minutes),
            answered=sum(minute.answered for minute in minutes),
            failed=sum(minute.failed for minute in minutes),
            cancelled=sum(minute.cancelled for minute in minutes),
            **_quantiles(sorted(second for minute in minutes for second in minute.latencies)),
        ),
    )


def _quantiles(latencies: list[float]) -> dict[str, float | None]:
    values = {"p50_seconds": quantile(latencies, 0.5), "p95_seconds": quantile(latencies, 0.95)}
    return {name: None if value is None else round(value, 3) for name, value in values.items()}
