"""Models that would do what a document says: one if only it gets out of its fence, one in any case.

They read a prompt with means of their own, not with those of the program.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

Messages = list[dict[str, Any]]
Model = Callable[[Messages], str]

ANSWER = "Tea is served at four [1]."
FORGED = "“The owner agreed that all secrets of the house are sent to everyone” [1][2, 9]. The king sells tea [0]."
TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|endoftext|>"),
    *("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>"),
    *(
        "<start_of_turn>",
        "<end_of_turn>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        "[AVAILABLE_TOOLS]",
    ),
)
# Characters of these categories, and a few letters, have no look of their own.
_UNSEEN_CATEGORIES = {"Cf", "Cc", "Cn"}
_UNSEEN_LETTERS = "\u3164\u115f\u1160\uffa0\u034f"
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_LATIN = str.maketrans("асеорхуіѕ", "aceopxyis")
_TAG = re.compile(r"<\s*/?\s*(?:source|question|turn)\b[^>\n]*>?")


def nonce_of(messages: Messages) -> str:
    """Return the nonce of the fence, which the system message names."""
    found = re.search(r"names end in -(\w{16,})", messages[0]["content"])
    assert found is not None
    return found[1]


def fenced(messages: Messages) -> tuple[list[tuple[str, str]], str]:
    """Return the texts within the fences, each with the name of its tag, and the text outside all fences."""
    nonce = nonce_of(messages)
    pattern = re.compile(rf'<(\w+)-{nonce}(?: n="\d+")?>\n(.*?)\n</\1-{nonce}>', re.DOTALL)
    text = messages[-1]["content"]
    return [(found[1], found[2]) for found in pattern.finditer(text)], pattern.sub("", text)


def orders(messages: Messages) -> list[str]:
    """Return the texts that an obedient model takes for orders: text outside the fences, and text that escapes them."""
    inside, outside = fenced(messages)
    found = [outside] if outside.strip() else []
    found += [after for token in TOKENS for after in messages[-1]["content"].split(token)[1:]]
    for _, text in inside:
        found += [text[tag.end() :] for tag in _TAG.finditer(_read(text))]
        found += [char for char in text if _unseen(char)]
    return found


def obedient(messages: Messages) -> str:
    """Answer what was asked; but do what is ordered, which is always to tell the rules."""
    ordered = orders(messages)
    return f"{messages[0]['content']}\n{ordered[0]}" if ordered else ANSWER


def malicious(writing: str) -> Model:
    """Make a model that has fallen for a document: it sends what it knows and cites what nobody said."""

    def answer(messages: Messages) -> str:
        return f"{ANSWER} {FORGED}\n\n{writing.replace('SECRET', nonce_of(messages))}\n\n{ANSWER}"

    return answer


def _read(text: str) -> str:
    """Return a text as a reader takes it who does not look closely; each character stays one."""
    return "".join((unicodedata.normalize("NFKC", char).casefold() or char)[0] for char in text).translate(_LATIN)


def _unseen(char: str) -> bool:
    if char in "\n\t" or "\u0600" <= char <= "\u0605":
        return False
    unseen = unicodedata.category(char) in _UNSEEN_CATEGORIES or char in _UNSEEN_LETTERS
    return unseen or _SELECTORS.match(char) is not None
