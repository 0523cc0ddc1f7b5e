"""The wording of a claim or sentence: its clauses, negations and names."""

from __future__ import annotations

import re

from rag.citations.figures import is_unit, normalize_line
from rag.text.language import capitalizes_nouns, may_negate, negation_words, stop_words

_CLAUSE = re.compile(
    r"(?<=[.!?])\s(?=(?-i:[^\W_a-z]))|[,;:|–—]\s|\s[–—-]\s|\||"
    r"\b(?:(?<!hundred )(?<!thousand )and|but|while|whereas|und|aber|während|et|mais|y|pero|e|ma|mas|en|maar)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")
_DENIED_AT_THE_END = re.compile(r"\b\w+n['’]t\b", re.IGNORECASE)
_DENIES_NOTHING = re.compile(
    r"\b(?:no|not) (?:only|just|more|less|fewer|later|longer|earlier|until)\b|\bnicht (?:nur|mehr|weniger)\b|"
    r"\bpas (?:seulement|plus|moins)\b|\bno (?:sólo|solo|solamente|más|menos)\b|\bnon (?:solo|più|meno)\b|"
    r"\bnão (?:só|apenas|mais|menos)\b|\bniet (?:alleen|meer|minder)\b",
    re.IGNORECASE,
)
# Words that forbid; another text may use a negation for the same rule.
_FORBIDS = re.compile(
    r"\b(?:avoid|forbidden|prohibited|banned|verboten|untersagt|vermeiden|interdite?s?|éviter|évite[zr]?|prohibid[oa]s?|"
    r"evit(?:ar|e|a|are|ate)|vietat[oaie]|proibid[oa]s?|verboden|vermijd(?:en)?)\b",
    re.IGNORECASE,
)
# The space stands first: the engine scans for one character 10 times as fast as it tries a look-behind.
_AFTER_A_WORD = re.compile(r" (?:(?<=[^\W_] )|(?<=[^\W_], ))([^\W_]{2,})")
# Several capitalised words in a row, after a word in lower case or a comma.
_FULL_NAME = re.compile(r"(?:(?<=[a-zß-ÿ] )|(?<=[^\W_], ))[A-ZÀ-ÖØ-Þ][^\W\d_]+(?: [A-ZÀ-ÖØ-Þ][^\W\d_]+)+")
_FIRST_NAME = re.compile(r"([A-ZÀ-ÖØ-Þ][^\W\d_]+) [A-ZÀ-ÖØ-Þ][^\W\d_]+")
NO = frozenset({"no", "nein", "non", "não", "nee"})
REPLIES = NO | {"yes", "correct", "right", "indeed", "ja", "oui", "si", "sí", "sì", "sim", "doch", "genau"}
_MAX_REPLY_CHARS = 60


def clauses_of(claim: str) -> list[str]:
    """Return the parts of a claim that may each make a statement."""
    return [part for part in _CLAUSE.split(normalize_line(claim)) if part and part.strip()]


def may_be_negated(text: str) -> bool:
    """Return False if `is_negated` is False for the text and each part of it: a cheap test that most texts fail."""
    lower = text.lower()
    return "'t" in lower or "’t" in lower or may_negate(lower)


def is_negated(text: str) -> bool:
    """Return True if a text contains a negation that changes its meaning (not: `not only`, `no later`)."""
    if not may_be_negated(text):
        return False
    plain = _DENIES_NOTHING.sub(" ", text)
    words = {word.lower() for word in _WORD.findall(plain)}
    return bool(words & negation_words(text)) or bool(_DENIED_AT_THE_END.search(plain))


def negates_or_forbids(text: str) -> bool:
    """Return True if a text negates or forbids something."""
    return is_negated(text) or bool(_FORBIDS.search(text))


def bare_reply(claim: str) -> str:
    """Return the first word of a claim that is only a reply: `yes` for `Yes, it is.`; empty for other claims."""
    words: list[str] = [word.lower() for word in _WORD.findall(claim)] if len(claim) <= _MAX_REPLY_CHARS else []
    if not words or words[0] not in REPLIES or not REPLIES.union(stop_words(claim)).issuperset(words):
        return ""
    return words[0]


def strip_negation(text: str) -> str:
    """Return the words of a text without its negations."""
    if not may_be_negated(text):
        return " ".join(_WORD.findall(text))
    no = negation_words(text)
    return " ".join(word for word in _WORD.findall(_DENIED_AT_THE_END.sub(" ", text)) if word.lower() not in no)


def names(claim: str) -> list[str]:
    """Return the capitalised words that do not start a sentence or title.

    Empty for German, which capitalises every noun.
    """
    found = [word for word in _AFTER_A_WORD.findall(claim.rpartition(":")[2]) if word[0].isupper()]
    return [name for name in found if not is_unit(name)] if found and not capitalizes_nouns(claim) else []


def full_names(claim: str) -> list[str]:
    """Return the names of several words within a claim; empty for German."""
    found: list[str] = _FULL_NAME.findall(claim)
    return found if found and not capitalizes_nouns(claim) else []


def first_name(sentence: str) -> list[str]:
    """Return the first word of a sentence if a second capitalised word shows that it is a name."""
    found = _FIRST_NAME.match(sentence)
    return [found[1]] if found is not None and not capitalizes_nouns(sentence) else []
