"""How a claim or a sentence says what it says: its parts, what it denies, the names in it."""

from __future__ import annotations

import re

from rag.citations.figures import is_unit, on_one_line
from rag.text.language import capitalizes_nouns, negation_words, stop_words

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
# Words that forbid, where others would say that something is not so.
_FORBIDS = re.compile(
    r"\b(?:avoid|forbidden|prohibited|banned|verboten|untersagt|vermeiden|interdite?s?|éviter|évite[zr]?|prohibid[oa]s?|"
    r"evit(?:ar|e|a|are|ate)|vietat[oaie]|proibid[oa]s?|verboden|vermijd(?:en)?)\b",
    re.IGNORECASE,
)
_AFTER_A_WORD = re.compile(r"(?:(?<=[^\W_] )|(?<=[^\W_], ))[^\W_]{2,}")
# Several of these in a row, after a word that is none, or after a comma.
_FULL_NAME = re.compile(r"(?:(?<=[a-zß-ÿ] )|(?<=[^\W_], ))[A-ZÀ-ÖØ-Þ][^\W\d_]+(?: [A-ZÀ-ÖØ-Þ][^\W\d_]+)+")
_FIRST_NAME = re.compile(r"([A-ZÀ-ÖØ-Þ][^\W\d_]+) [A-ZÀ-ÖØ-Þ][^\W\d_]+")
NO = frozenset({"no", "nein", "non", "não", "nee"})
REPLIES = NO | {"yes", "correct", "right", "indeed", "ja", "oui", "si", "sí", "sì", "sim", "doch", "genau"}
_LONGEST_REPLY = 60


def clauses_of(claim: str) -> list[str]:
    """Return the parts of a claim that may each say something of its own."""
    return [part for part in _CLAUSE.split(on_one_line(claim)) if part and part.strip()]


def is_denied(text: str) -> bool:
    """Tell whether a text says that something is not so."""
    plain = _DENIES_NOTHING.sub(" ", text)
    words = {word.lower() for word in _WORD.findall(plain)}
    return bool(words & negation_words(text)) or bool(_DENIED_AT_THE_END.search(plain))


def says_no(text: str) -> bool:
    """Tell whether a text says that something is not so, or may not be."""
    return is_denied(text) or bool(_FORBIDS.search(text))


def bare_reply(claim: str) -> str:
    """Return the reply of which a claim is no more, `yes` of `Yes, it is.`; empty of other claims."""
    words: list[str] = [word.lower() for word in _WORD.findall(claim)] if len(claim) <= _LONGEST_REPLY else []
    if not words or words[0] not in REPLIES or not REPLIES.union(stop_words(claim)).issuperset(words):
        return ""
    return words[0]


def undenied(text: str) -> str:
    """Return a text without its words of denial."""
    no = negation_words(text)
    return " ".join(word for word in _WORD.findall(_DENIED_AT_THE_END.sub(" ", text)) if word.lower() not in no)


def names(claim: str) -> list[str]:
    """Return the words that are written as names: capitalised, and not because a sentence or a title begins.

    None in German, which writes every noun so.
    """
    if capitalizes_nouns(claim):
        return []
    words = _AFTER_A_WORD.findall(claim.rpartition(":")[2])
    return [name for name in words if name[0].isupper() and not is_unit(name)]


def full_names(claim: str) -> list[str]:
    """Return the names of several words amid a claim; none in German."""
    return [] if capitalizes_nouns(claim) else _FULL_NAME.findall(claim)


def first_name(sentence: str) -> list[str]:
    """Return the name with which a sentence begins, where a second one shows that it is one; else none."""
    found = None if capitalizes_nouns(sentence) else _FIRST_NAME.match(sentence)
    return [found[1]] if found else []
