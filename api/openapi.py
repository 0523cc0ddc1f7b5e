"""The parts of the OpenAPI document that routes cannot state themselves."""

from __future__ import annotations

from typing import Any

from api.middleware.auth import SESSION_COOKIE, is_public
from api.problems import Problem, openapi_problems
from api.routes import chat


def complete(document: dict[str, Any], *, auth_required: bool) -> None:
    """Add the Problem schema, an example question and the ways to authenticate to a document that FastAPI made."""
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {}) | {"Problem": problem}
    # FastAPI takes no example for one field of a model of query parameters.
    parameters = document["paths"]["/chat"]["post"]["parameters"]
    query = next(parameter for parameter in parameters if parameter["name"] == "query")
    query["examples"] = {"question": {"value": chat.EXAMPLE}}
    _add_authentication(document, required=auth_required)


def _add_authentication(document: dict[str, Any], *, required: bool) -> None:
    """Describe the ways to authenticate, and the responses to callers who are refused."""
    document["components"]["securitySchemes"] = {
        "Bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT)."},
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    }
    session = {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": "A session of a browser."}
    document["components"]["securitySchemes"]["Session"] = session
    schemes: list[dict[str, list[str]]] = [{"Bearer": []}, {"X-API-Key": []}, {"Session": []}]
    refusals = {str(status): response for status, response in openapi_problems(401, 403, 429).items()}
    for path, methods in document["paths"].items():
        if not is_public(path):
            for operation in methods.values():
                operation["security"] = schemes if required else [{}, *schemes]
                operation["responses"] = refusals | operation["responses"]
