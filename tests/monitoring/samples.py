"""Reading metrics as Prometheus does."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}


def samples_of(response: httpx.Response) -> list[Sample]:
    """Return all samples of a response, in whichever format it is."""
    assert response.status_code == 200, response.text
    parse: Any = text_string_to_metric_families
    if response.headers["content-type"].startswith("application/openmetrics-text"):
        parse = openmetrics_families
    return [sample for family in parse(response.text) for sample in family.samples]


def value_of(samples: list[Sample], name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    found = [sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]
    return sum(found)


def metric_value(client: httpx.Client, name: str, **labels: str) -> float:
    """Read a metric's value now, summed over its other labels."""
    return value_of(samples_of(client.get("/metrics")), name, **labels)
