"""Keys are built in one module, and their texts never change: stored data outlives a release."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from client.valkey import keys
from tests.support.processes import ROOT
from tests.test_architecture import FILES

KEYS_MODULE = ROOT / "client" / "valkey" / "keys.py"


def spelled_keys(path: Path) -> list[str]:
    """Return the literals in a module that begin as a key does, those in f-strings and bytes included."""
    literals = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in literals]
    found = [text for text in texts if isinstance(text, str) and text.startswith(("rq:", "rag:"))]
    return [text for text in found if not text.startswith("rag://")]  # the addresses of documents for MCP


@pytest.mark.parametrize(
    "path", [path for path in FILES if path != KEYS_MODULE], ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_other_module_spells_a_key(path: Path) -> None:
    assert spelled_keys(path) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/**/lua/*.lua")), ids=lambda path: path.name)
def test_no_script_spells_a_key(path: Path) -> None:
    assert "'rq:" not in path.read_text()
    assert "'rag:" not in path.read_text()


def test_spelled_keys_are_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('a = "rq:job:1"; b = f"rag:{a}:x"; c = b"rq:"; d = "a rq:job"')
    assert spelled_keys(module) == ["rq:job:1", "rq:", "rag:"]


def test_stored_keys_keep_their_texts() -> None:
    assert [keys.job("j"), keys.results("j"), keys.executions("j"), keys.execution("j", "e")] == [
        "rq:job:j",
        "rq:results:j",
        "rq:executions:j",
        "rq:execution:j:e",
    ]
    assert [keys.queue("q"), keys.registry("wip", "q"), keys.scheduler_lock("q")] == [
        "rq:queue:q",
        "rq:wip:q",
        "rq:scheduler-lock:q",
    ]
    assert [keys.events("j"), keys.owner_jobs("a:b"), keys.ALL_JOBS, keys.batch("b"), keys.fair_queue("q")] == [
        "rag:events:j",
        "rag:jobs:a%3Ab",
        "rag:jobs:*",
        "rag:batch:b",
        "rag:turns:q",
    ]
    assert keys.conversation_jobs("a:b", "c") == "rag:conversation:a%3Ab:c:jobs"
    assert [keys.outbox_entry("j"), keys.endpoints("a"), keys.endpoints(None), keys.delivery_log("owner", "a:b")] == [
        "rag:webhook:intent:j",
        "rag:webhook:endpoints:a",
        "rag:webhook:endpoints:*",
        "rag:webhook:log:owner:a%3Ab",
    ]
    assert keys.LINK_KEY == "rag:links:key"
    assert keys.LUA_CONSTANTS["EXECUTION"] == "rq:execution:"
