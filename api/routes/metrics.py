"""GET /metrics: what Prometheus reads, for administrators. METRICS_PORT shows the same without a key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.dependencies import OPERATOR, MetricsDep, PoolsDep
from api.problems import openapi_problems

router = APIRouter(tags=["health"])

_TEXT = {"schema": {"type": "string"}}


@router.get(
    "/metrics",
    dependencies=OPERATOR,
    response_class=Response,
    responses={
        200: {"content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}},
        **openapi_problems(503),
    },
)
async def metrics(request: Request, registry: MetricsDep, pools: PoolsDep) -> Response:
    """Return the metrics of the whole deployment, as text of Prometheus or of OpenMetrics as `Accept` asks."""
    content, media_type = await pools.sql.run(registry.render, request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
