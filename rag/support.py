"""Whether a passage supports a claim, as far as words, names and figures can tell.

What a check of words sees: a claim about something else, a figure or its unit that the passage does not give, a figure
that it gives of something else with one of its own, a subject or a name put in another's place, and a sentence denied
or one whose denial is left out. What it does not see: figures of the same sentence exchanged, a comparison or an order
turned round, a cause made up, a word of the question put for one of the passage, and anything said in words all of
which stand in the passage. Sums and conversions that the passage does not give count as unsupported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

from rag.figures import Figure, figures, numbers_in_words, on_one_line
from rag.language import denials, differ_in_language, telling_words
from rag.quotes import best_quote, pieces
from rag.relevance import Terms
from rag.text import normalised

# Share of a claim's terms that its quote must hold. Of 95 passages quoted from a speech all are supported by their
# page at 0.25 and 0.6 % by another page; of the 76 questions about it, which say the same in other words and with words
# of asking, 80 % and 0.8 %. At 0.2 it is 92 % and 5 % of the questions, at 0.3 68 % and 0.3 %.
SUPPORTED_SHARE = 0.25
# A claim of more terms than this is not supported by one of them alone.
ONE_IS_ENOUGH = 3
# A claim that denies what the source says holds at least this share of its words in one sentence, and two of them.
DENIED_SHARE = 0.8
_DENIED_TERMS = 2
# A claim that repeats a sentence but for a word: this share of the words of both, and so many terms.
REPEATED_SHARE = 0.6
_REPEATED_TERMS = 3
# Longer ones are compared by their terms alone: comparing in order takes time that grows with the square.
_LONGEST_REPEATED = 60
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
_POINTS_BACK = re.compile(
    r"\W*(?:it|they|this|these|that|those|he|she|its|their|his|her|er|sie|es|dies|diese[rs]?|il|elle|ils|elles|ce|cela|"
    r"este|esta|esto|ello|ella|questo|questa|esso|essa|ele|ela|isto|hij|zij|ze|dit|deze|het)\b",
    re.IGNORECASE,
)
_AFTER_A_WORD = re.compile(r"(?:(?<=[^\W_] )|(?<=[^\W_], ))[^\W_]{2,}")
_REPLIES = "yes no correct right indeed ja nein oui non sí si sim não nee doch genau"


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence of a passage. `wider` are also the terms of the one before, where it points back to that."""

    text: str
    terms: frozenset[int]
    wider: frozenset[int]
    figures: tuple[Figure, ...]
    numbers: frozenset[str]

    def gives(self, figure: Figure) -> bool:
        """Tell whether this sentence says a figure, in digits or words, and of no other unit."""
        if any(figure.is_said_by(own) for own in self.figures):
            return True
        if any(figure.readings & own.readings for own in self.figures):
            return False
        return bool(figure.readings & self.numbers) or bool(figure.parts and figure.parts <= self.numbers)


class Evidence:
    """A passage as claims are compared with it. `about` is what it is called: its document, section and page."""

    def __init__(self, text: str, terms: Terms, *, about: str = "", question: str = "") -> None:
        self._text = text
        self._terms = terms
        self._about = about
        self._question = question

    def supports(self, claim: str) -> bool:
        """Tell whether the passage says what a claim says: enough of its words, close together, and its figures."""
        wanted = self._content(claim)
        if not wanted:
            return False
        same_language = not differ_in_language(claim, self._text)
        # An answer in another language than its source shares names, figures and loan words with it at the best.
        quote = best_quote(self._text, wanted, self._terms)
        needed = 1 if len(wanted) <= ONE_IS_ENOUGH or not same_language else 2
        if quote.held < needed or (same_language and quote.held < SUPPORTED_SHARE * len(wanted)):
            return False
        clauses = _clauses(claim)
        return self._gives_figures_of(clauses, same_language=same_language) and (
            not same_language
            or not (self._lacks_what_is_new(claim, wanted) or self._denies(claim, clauses) or self._replaces(claim))
        )

    def _content(self, text: str) -> frozenset[int]:
        """Return the terms of a text but for those that say nothing in its language."""
        empty = telling_words(text)
        return self._terms(" ".join(word for word in _WORD.findall(normalised(text)) if word.lower() not in empty))

    @cached_property
    def _sentences(self) -> list[_Sentence]:
        found: list[_Sentence] = []
        for start, end in pieces(self._text):
            text = on_one_line(self._text[start:end])
            own, given = self._terms(text), tuple(figures(text))
            wider = own | found[-1].terms if found and _POINTS_BACK.match(text) else own
            numbers = numbers_in_words(text).union(*(figure.readings | figure.parts for figure in given))
            found.append(_Sentence(text, own, wider, given, numbers))
        return found

    @cached_property
    def _held(self) -> frozenset[int]:
        """All terms that a claim need not bring: the passage's, and those of what it is called."""
        return self._terms(self._about).union(*(sentence.terms for sentence in self._sentences))

    @cached_property
    def _asked(self) -> frozenset[int]:
        return self._terms(self._question)

    def _gives_figures_of(self, clauses: list[str], *, same_language: bool) -> bool:
        """Tell whether every figure of a claim is given, and where the claim has it.

        One of the question's may be repeated beside another that is given: `not 100 but 142 grams`.
        """
        called = {number for figure in figures(on_one_line(self._about)) for number in figure.readings}
        asked = {number for figure in figures(on_one_line(self._question)) for number in figure.readings}
        given, repeated = False, False
        for clause in clauses:
            found = figures(clause)
            rest = _without(found, clause)
            said = self._content(rest)
            first = next(
                (term for word in _WORD.findall(rest) if (term := self._content(word) & said)), frozenset[int]()
            )
            for figure in {(one.readings, one.units, one.scales): one for one in found}.values():
                giving = [n for n, sentence in enumerate(self._sentences) if sentence.gives(figure)]
                if giving and (not same_language or not said or self._belongs(figure, giving, said, first)):
                    given = True
                elif figure.readings & called:
                    continue
                elif figure.readings & asked and not giving:
                    repeated = True
                else:
                    return False
        return given or not repeated

    def _belongs(self, figure: Figure, giving: list[int], said: frozenset[int], first: frozenset[int]) -> bool:
        """Tell whether a figure is given of what its clause has it of: of the terms `said`, with `first` its subject.

        It is another's where a sentence with a figure of the same kind has all that the clause has in common with the
        one that gives it, and more; or its subject, and as much.
        """
        best = max(giving, key=lambda n: len(said & self._sentences[n].wider))
        mine = said & self._sentences[best].wider
        for n, rival in enumerate(self._sentences):
            if n in giving or not any(figure.kind & other.kind for other in rival.figures):
                continue
            theirs = said & rival.terms
            if mine < theirs or (first <= theirs and not first & mine and len(mine - theirs) <= 1):
                return False
        return True

    def _lacks_what_is_new(self, claim: str, wanted: frozenset[int]) -> bool:
        """Tell whether a claim adds a name to the question, or says little else, and nothing it adds stands here."""
        new = wanted - self._asked - self._terms(_REPLIES)
        if not new or new & self._held:
            return False
        return len(wanted) <= ONE_IS_ENOUGH or any(self._terms(name) & new for name in _names(claim))

    def _denies(self, claim: str, clauses: list[str]) -> bool:
        """Tell whether a claim repeats a sentence and denies it, or leaves out that it is denied there."""
        for clause in clauses:
            said = self._content(_undenied(clause))
            if len(said) < _DENIED_TERMS:
                continue
            if _is_denied(clause):
                best = max(self._sentences, key=lambda sentence: len(said & sentence.wider))
                if len(said & best.wider) >= DENIED_SHARE * len(said) and not _is_denied(best.text):
                    return True
            elif not _is_denied(claim) and self._is_denial_of(said):
                return True
        return False

    def _is_denial_of(self, said: frozenset[int]) -> bool:
        """Tell whether a part of the passage says just these terms, and denies them, and no other part says them."""
        denied = False
        for sentence in self._sentences:
            for part in _clauses(sentence.text):
                own = self._content(_undenied(part))
                if said <= own and not _is_denied(part):
                    return False
                denied = denied or (own == said and _is_denied(part))
        return denied

    def _replaces(self, claim: str) -> bool:
        """Tell whether a claim repeats a sentence with another subject or name, of which the passage does not speak."""
        words = _WORD.findall(on_one_line(claim))
        if len(words) > _LONGEST_REPEATED:
            return False
        mine = [self._terms(word) for word in words]
        first = next((n for n, term in enumerate(mine) if term), None)
        names = set(_names(claim))
        suspects = {
            n
            for n, term in enumerate(mine)
            if term and not term & self._held and (words[n] in names or (n == first and not term & self._asked))
        }
        if not suspects:
            return False
        said = frozenset[int]().union(*mine)
        for sentence in self._sentences:
            if len(said & sentence.terms) >= _REPEATED_TERMS and self._puts(mine, suspects, sentence.text):
                return True
        return False

    def _puts(self, mine: list[frozenset[int]], suspects: set[int], sentence: str) -> bool:
        """Tell whether words repeat those of a sentence with a suspect in the place of one word."""
        theirs = [self._terms(word) for word in _WORD.findall(sentence)][:_LONGEST_REPEATED]
        matcher = SequenceMatcher(None, mine, theirs, autojunk=False)
        if matcher.ratio() < REPEATED_SHARE:
            return False
        return any(
            kind == "replace" and b - a == d - c and n in suspects and bool(theirs[c + n - a])
            for kind, a, b, c, d in matcher.get_opcodes()
            for n in range(a, b)
        )


def _clauses(claim: str) -> list[str]:
    return [part for part in _CLAUSE.split(on_one_line(claim)) if part and part.strip()]


def _without(found: list[Figure], clause: str) -> str:
    text = list(clause)
    for figure in found:
        text[figure.start : figure.end] = " " * (figure.end - figure.start)
    return "".join(text)


def _is_denied(text: str) -> bool:
    plain = _DENIES_NOTHING.sub(" ", text)
    words = {word.lower() for word in _WORD.findall(plain)}
    return bool(words & denials(text)) or bool(_DENIED_AT_THE_END.search(plain))


def _undenied(text: str) -> str:
    """Return a text without its words of denial."""
    no = denials(text)
    return " ".join(word for word in _WORD.findall(_DENIED_AT_THE_END.sub(" ", text)) if word.lower() not in no)


def _names(claim: str) -> list[str]:
    """Return the words that are written as names: capitalised, and not because a sentence or a title begins."""
    return [name for name in _AFTER_A_WORD.findall(claim.rpartition(":")[2]) if name[0].isupper()]
