"""Whether a passage supports a claim, as far as words, names and figures can tell.

What a check of words sees: a claim about something else, a figure or its unit that the passage does not give, a figure
that it gives of something else with one of its own, in its sentence or another, a subject or a name put in another's
place, and a sentence denied or one whose denial is left out. What it does not see: figures exchanged where parts of a
sentence are not built alike, names where a sentence is built anew, a comparison or an order turned round, a cause made
up, a word of the question put for one of the passage, and anything else said in words all of which stand there. Sums
and conversions that the passage does not give count as unsupported.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import cached_property

from rag.citations.figures import YEAR, Figure, figures, on_one_line
from rag.citations.quotes import best_quote
from rag.citations.sentences import Sentence, sentences_of, uncounted, without_figures
from rag.citations.wording import (
    NO,
    REPLIES,
    bare_reply,
    clauses_of,
    first_name,
    full_names,
    is_denied,
    names,
    says_no,
    undenied,
)
from rag.search.relevance import TermExtractor, content_terms
from rag.text.language import are_in_different_languages, function_words
from rag.text.normalize import normalize

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
# A yes or no is borne out by a sentence that holds this share of the question's terms.
ANSWERED_SHARE = 0.5
# Longer ones are compared by their terms alone: comparing in order takes time that grows with the square.
_LONGEST_REPEATED = 60
_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


class Evidence:
    """A passage as claims are compared with it. `about` is what it is called: its document, section and page."""

    def __init__(self, text: str, terms: TermExtractor, *, about: str = "", question: str = "") -> None:
        self._text = text
        self._terms = terms
        self._about = about
        self._question = question
        self._given: dict[tuple[frozenset[str], ...], list[int]] = {}

    def supports(self, claim: str) -> bool:
        """Tell whether the passage says what a claim says: enough of its words, close together, and its figures."""
        if reply := bare_reply(claim):
            return self._bears_out(reply)
        wanted = self._content(claim)
        if not wanted:
            return False
        same_language = not (
            are_in_different_languages(claim, self._text)
            or are_in_different_languages(f"{self._question} {claim}", self._text)
        )
        # An answer in another language than its source shares names, figures and loan words with it at the best.
        quote = best_quote(self._text, wanted, self._terms)
        needed = 1 if len(wanted) <= ONE_IS_ENOUGH or not same_language else 2
        held = quote.held + self._written_otherwise(claim)
        if held < needed or (same_language and held < SUPPORTED_SHARE * len(wanted)):
            return False
        clauses = clauses_of(claim)
        return self._gives_figures_of(clauses, same_language=same_language) and (
            not same_language
            or not (
                self._lacks_what_is_new(claim, wanted)
                or self._denies(claim, clauses)
                or self._replaces(claim)
                or (len(_WORD.findall(claim)) <= _LONGEST_REPEATED and any(map(self._exchanges, clauses)))
            )
        )

    def _bears_out(self, reply: str) -> bool:
        """Tell whether the sentence nearest to the question says it for a `yes`, and denies it for a `no`.

        A question with figures may be answered by others, and so with no.
        """
        asked = content_terms(self._question, self._terms)
        nearest = self._nearest(asked)
        if nearest is None or len(asked & nearest.wider) < max(1, ANSWERED_SHARE * len(asked)):
            return False
        if reply in NO:
            return says_no(nearest.text) or bool(self._asked_numbers)
        return not says_no(nearest.text) and self._gives_figures_of(clauses_of(self._question), same_language=True)

    def _nearest(self, wanted: frozenset[int]) -> Sentence | None:
        return max(self._sentences, key=lambda sentence: len(wanted & sentence.wider), default=None)

    def _content(self, text: str) -> frozenset[int]:
        """Return the terms of a text but for those that say nothing in its language."""
        empty = function_words(text)
        return self._terms(" ".join(word for word in _WORD.findall(normalize(text)) if word.lower() not in empty))

    @cached_property
    def _sentences(self) -> list[Sentence]:
        return list(sentences_of(self._text, self._terms))

    @cached_property
    def _held(self) -> frozenset[int]:
        """All terms that a claim need not bring: the passage's, and those of what it is called."""
        return self._terms(self._about).union(*(sentence.terms for sentence in self._sentences))

    @cached_property
    def _asked(self) -> frozenset[int]:
        return self._terms(self._question)

    @cached_property
    def _called_numbers(self) -> frozenset[str]:
        return _numbers(self._about)

    @cached_property
    def _asked_numbers(self) -> frozenset[str]:
        return _numbers(self._question)

    def _written_otherwise(self, claim: str) -> int:
        """Return how many figures of a claim the passage gives in other characters, as `doce` or `1.200,00`."""
        line = on_one_line(claim)
        written = {line[figure.start : figure.end]: figure for figure in figures(line)}
        return sum(
            not self._terms(digits) <= self._held and any(sentence.gives(figure) for sentence in self._sentences)
            for digits, figure in written.items()
            if digits[0].isdigit()
        )

    def _gives_figures_of(self, clauses: list[str], *, same_language: bool) -> bool:
        """Tell whether every figure of a claim is given, and where the claim has it.

        One of the question's may be repeated beside another that is given: `not 100 but 142 grams`.
        """
        given, repeated = False, False
        for clause in dict.fromkeys(clauses):
            found = figures(clause)
            rest = without_figures(found, clause)
            said = self._content(rest)
            first = next(
                (term for word in _WORD.findall(rest) if (term := self._content(word) & said)), frozenset[int]()
            )
            named = self._terms(uncounted(clause, found))
            for figure in {(one.readings, one.units, one.scales): one for one in found}.values():
                giving = self._giving(figure)
                if giving and same_language and all(self._sentences[n].gives_of_another(figure, named) for n in giving):
                    return False
                if giving and (not same_language or not said or self._belongs(figure, giving, said, first)):
                    given = True
                elif figure.readings & self._called_numbers:
                    continue
                elif figure.readings & self._asked_numbers and not giving:
                    repeated = True
                else:
                    return False
        return given or not repeated

    def _giving(self, figure: Figure) -> list[int]:
        """Return which sentences give a figure; each is looked for once, however often an answer repeats it."""
        key = (figure.readings, figure.parts, figure.units, figure.scales)
        if key not in self._given:
            self._given[key] = [n for n, sentence in enumerate(self._sentences) if sentence.gives(figure)]
        return self._given[key]

    def _belongs(self, figure: Figure, giving: list[int], said: frozenset[int], first: frozenset[int]) -> bool:
        """Tell whether a figure is given of what its clause has it of: of the terms `said`, with `first` its subject.

        It is another's where a sentence with a figure of the same kind has all that the clause has in common with the
        one that gives it, and more; or its subject, and as much.
        """
        if any(self._sentences[n].heads(figure) for n in giving):
            return True
        best = max(giving, key=lambda n: len(said & self._sentences[n].wider))
        mine = said & self._sentences[best].wider
        for n, rival in enumerate(self._sentences):
            if n in giving or not any(figure.kind & other.kind for other in rival.figures):
                continue
            theirs = said & rival.terms
            # What a whole text is about is named once, beside one of its years: it does not own that alone.
            told = len(theirs) > len(mine) or not figure.kind & YEAR
            if mine < theirs or (told and first <= theirs and not first & mine and len(mine - theirs) <= 1):
                return False
        return True

    def _lacks_what_is_new(self, claim: str, wanted: frozenset[int]) -> bool:
        """Tell whether a claim adds a name to the question, or says little else, and nothing it adds stands here.

        A full name has to stand here in any case. What the passage denies may be said in another word, `forbidden`.
        """
        if any(map(self._is_unknown, full_names(claim))):
            return True
        new = wanted - self._asked - self._terms(" ".join(REPLIES))
        if not new or new & self._held or self._written_otherwise(claim):
            return False
        if any(self._terms(name) & new for name in names(claim)):
            return True
        nearest = self._nearest(wanted)
        agrees = says_no(claim) and nearest is not None and says_no(nearest.text)
        return len(wanted) <= ONE_IS_ENOUGH and not agrees

    def _is_unknown(self, name: str) -> bool:
        """Tell whether no word of a full name stands in the passage or the question, nor its initials."""
        words = name.split()
        known = self._held | self._asked
        initials = self._terms("".join(word[0] for word in words))
        return not initials & known and all((terms := self._terms(word)) and not terms & known for word in words)

    def _denies(self, claim: str, clauses: list[str]) -> bool:
        """Tell whether a claim repeats a sentence and denies it, or leaves out that it is denied there."""
        denied = is_denied(claim)
        for clause in dict.fromkeys(clauses):
            said = self._content(undenied(clause))
            if len(said) < _DENIED_TERMS:
                continue
            if is_denied(clause):
                best = max(self._sentences, key=lambda sentence: len(said & sentence.wider))
                if len(said & best.wider) >= DENIED_SHARE * len(said) and not is_denied(best.text):
                    return True
            elif not denied and self._is_denial_of(said):
                return True
        return False

    def _is_denial_of(self, said: frozenset[int]) -> bool:
        """Tell whether a part of the passage says just these terms, and denies them, and no other part says them."""
        denied = False
        for sentence in self._sentences:
            for part in clauses_of(sentence.text):
                own = self._content(undenied(part))
                if said <= own and not is_denied(part):
                    return False
                denied = denied or (own == said and is_denied(part))
        return denied

    def _replaces(self, claim: str) -> bool:
        """Tell whether a claim repeats a sentence with another subject or name, of which the passage does not speak."""
        words = _WORD.findall(on_one_line(claim))
        if len(words) > _LONGEST_REPEATED:
            return False
        mine = [self._terms(word) for word in words]
        first = next((n for n, term in enumerate(mine) if term), None)
        written = set(names(claim))
        suspects = {
            n
            for n, term in enumerate(mine)
            if term and not term & self._held and (words[n] in written or (n == first and not term & self._asked))
        }
        if not suspects:
            return False
        said = frozenset[int]().union(*mine)
        for sentence in self._sentences:
            if len(said & sentence.terms) >= _REPEATED_TERMS and self._puts(mine, suspects, sentence.text):
                return True
        return False

    def _exchanges(self, clause: str) -> bool:
        """Tell whether a part of a claim repeats the sentences nearest to it with a name of another one in each."""
        words = _WORD.findall(clause)
        named = {n for n, word in enumerate(words) if word in self._named}
        if not named:
            return False
        mine = [self._terms(word) for word in words]
        said = frozenset[int]().union(*mine)
        shared = [len(said & sentence.wider) for sentence in self._sentences]
        return max(shared) >= _REPEATED_TERMS and all(
            self._puts(mine, {n for n in named if not mine[n] & sentence.wider}, sentence.text, only=self._named)
            for sentence, count in zip(self._sentences, shared, strict=True)
            if count == max(shared)
        )

    @cached_property
    def _named(self) -> frozenset[str]:
        """The names that the passage itself writes as such."""
        return frozenset(
            word for sentence in self._sentences for word in [*names(sentence.text), *first_name(sentence.text)]
        )

    def _puts(
        self, mine: list[frozenset[int]], suspects: set[int], sentence: str, *, only: frozenset[str] | None = None
    ) -> bool:
        """Tell whether words repeat those of a sentence with a suspect in the place of one, if given one of `only`."""
        if not suspects:
            return False
        words = _WORD.findall(sentence)[:_LONGEST_REPEATED]
        theirs = [self._terms(word) for word in words]
        matcher = SequenceMatcher(None, mine, theirs, autojunk=False)
        if matcher.ratio() < REPEATED_SHARE:
            return False
        return any(
            kind == "replace"
            and b - a == d - c
            and n in suspects
            and bool(theirs[c + n - a])
            and (only is None or words[c + n - a] in only)
            for kind, a, b, c, d in matcher.get_opcodes()
            for n in range(a, b)
        )


def _numbers(text: str) -> frozenset[str]:
    """Return what each figure of a text may be read as."""
    return frozenset(number for figure in figures(on_one_line(text)) for number in figure.readings)
