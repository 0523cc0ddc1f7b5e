"""The few sentences the program says by itself in an answer, in the language of the question."""

from __future__ import annotations

import re
from typing import NamedTuple

_WORD = re.compile(r"[^\W\d_]+")


class Phrases(NamedTuple):
    """What is said when nothing was found; `missing` comes before the words that stand nowhere."""

    nothing_found: str
    missing: str
    quoted: str


_PHRASES = {
    "en": Phrases(
        "Nothing about this was found in the indexed documents.",
        "No document mentions:",
        "Quoted from your documents, not generated: no model is configured.",
    ),
    "de": Phrases(
        "Dazu wurde in den indexierten Dokumenten nichts gefunden.",
        "Kein Dokument erwähnt:",
        "Aus Ihren Dokumenten zitiert, nicht erzeugt: kein Modell ist eingerichtet.",
    ),
    "fr": Phrases(
        "Rien à ce sujet n’a été trouvé dans les documents indexés.",
        "Aucun document ne mentionne :",
        "Cité de vos documents, non généré : aucun modèle n’est configuré.",
    ),
    "es": Phrases(
        "No se encontró nada sobre esto en los documentos indexados.",
        "Ningún documento menciona:",
        "Citado de sus documentos, no generado: no hay ningún modelo configurado.",
    ),
    "it": Phrases(
        "Nei documenti indicizzati non è stato trovato nulla al riguardo.",
        "Nessun documento menziona:",
        "Citato dai vostri documenti, non generato: nessun modello è configurato.",
    ),
    "pt": Phrases(
        "Nada sobre isto foi encontrado nos documentos indexados.",
        "Nenhum documento menciona:",
        "Citado dos seus documentos, não gerado: nenhum modelo está configurado.",
    ),
    "nl": Phrases(
        "Hierover is in de geïndexeerde documenten niets gevonden.",
        "Geen document noemt:",
        "Geciteerd uit uw documenten, niet gegenereerd: er is geen model ingesteld.",
    ),
}
# Words of questions that tell these languages apart.
_TELLING = {
    "en": "the of and is are what which who when where how does did do was were this that for with why can my your",
    "de": "der die das und ist sind was welche welcher welches wer wann wo wie nicht ein eine von mit für warum kann "
    "wird wurde dem den des zu im auf",
    "fr": "le la les et est sont que quel quelle quels quelles qui quand où comment combien pourquoi des du une dans "
    "pour avec ce cette il elle",
    "es": "el la los las de y es son qué cuál cuáles quién cuándo dónde cómo cuánto cuántos cuánta por una del para "
    "con se está fue",
    "it": "il lo gli e è sono che cosa quale quali chi quando dove come quanto quanti perché una del della per con di "
    "nel nella",
    "pt": "o os as e é são que qual quais quem quando onde como quanto quantos por uma do da dos das para com não em",
    "nl": "de het een en is zijn wat welke wie wanneer waar hoe waarom van met voor niet op kan wordt",
}
_TELLING_WORDS = {language: frozenset(words.split()) for language, words in _TELLING.items()}


def phrases(question: str) -> Phrases:
    """Return the sentences in the question's language; English when it cannot be told."""
    return _PHRASES[_language(question)]


def telling_words(question: str) -> frozenset[str]:
    """Return the words of the question's language that say nothing of what is asked, in lower case."""
    return _TELLING_WORDS[_language(question)]


def differ_in_language(one: str, other: str) -> bool:
    """Tell whether two texts are surely of different languages: each has its own's words, and more than the other's."""
    first, second = _counts(one), _counts(other)
    mine, theirs = _most(first), _most(second)
    return first[mine] > first[theirs] + 1 and second[theirs] > second[mine] + 1


def _language(text: str) -> str:
    return _most(_counts(text))


def _counts(text: str) -> dict[str, int]:
    words = [word.lower() for word in _WORD.findall(text)]
    return {language: sum(word in telling for word in words) for language, telling in _TELLING_WORDS.items()}


def _most(counts: dict[str, int]) -> str:
    return max(counts, key=lambda language: (counts[language], language == "en"))


# Words that say in these languages that something is not so.
_DENIALS = {
    "en": "not no never cannot none nor neither nobody nothing",
    "de": "nicht kein keine keinen keinem keiner keines nie niemals nichts niemand weder",
    "fr": "pas aucun aucune jamais rien ni",
    "es": "no nunca ningún ninguno ninguna jamás nada ni",
    "it": "non nessun nessuno nessuna mai nulla niente né",
    "pt": "não nunca nenhum nenhuma jamais nada nem",
    "nl": "niet geen nooit niets niemand noch",
}


def denials(text: str) -> frozenset[str]:
    """Return the words by which the text's language denies, in lower case; none where none are known of it."""
    return frozenset(_DENIALS.get(_language(text), "").split())
