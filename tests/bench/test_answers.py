"""The claims of `make bench-answers`: enough of each kind, quoted exactly, and better checked than by the baseline."""

from __future__ import annotations

from collections import Counter

from bench.answers.citations import bare, baseline, quoting
from bench.answers.claims import FALSE, FOLDER, OTHER_PART, OTHER_SOURCE, REFUSAL, TRUE, read_claims, read_excerpts
from bench.answers.quoted import QUESTIONS, Asked, read_asked
from rag.citations.exact import locate_quotation

FILES = ("claims.txt", "claims-locked.txt")


def test_there_are_claims_of_each_kind_about_documents_in_several_languages() -> None:
    kinds = Counter(claim.kind for name in FILES for claim in read_claims(name))
    assert sum(kinds.values()) >= 300
    assert set(kinds) == {*TRUE, *FALSE, OTHER_SOURCE, OTHER_PART, REFUSAL}
    excerpts = [excerpt for name in FILES for excerpt in read_excerpts(FOLDER / name)]
    assert len({excerpt.document for excerpt in excerpts}) == len(excerpts) >= 20
    assert len({excerpt.language for excerpt in excerpts}) >= 6


def test_the_words_that_a_claim_quotes_stand_in_its_passage() -> None:
    for name in FILES:
        for claim in read_claims(name):
            if claim.kind not in {OTHER_SOURCE, OTHER_PART, REFUSAL}:
                assert locate_quotation(claim.words, claim.passage), claim


def test_more_is_kept_and_caught_than_by_the_baseline() -> None:
    claims = read_claims("claims.txt")
    for kinds, least, least_bare in (
        (TRUE, 0.85, 0.68), ((OTHER_SOURCE,), 0.9, 0.9), ((OTHER_PART,), 0.9, 0.87), ((REFUSAL,), 0.9, 0.7)
    ):  # fmt: skip
        chosen = [claim for claim in claims if claim.kind in kinds]
        right, right_bare = (sum(check(claim) is claim.is_true for claim in chosen) for check in (quoting, bare))
        assert right >= least * len(chosen)
        assert right >= sum(baseline(claim) is claim.is_true for claim in chosen)
        assert right_bare >= least_bare * len(chosen)


def test_there_are_as_many_questions_held_out_as_to_tune_on_with_and_without_an_answer() -> None:
    documents = read_asked(QUESTIONS)
    for wanted in (True, False):
        asked = [one for held_out, some in documents.values() if held_out is wanted for one in some]
        assert sum(bool(one.expected) for one in asked) >= 30
        assert sum(not one.expected for one in asked) >= 14
    assert Asked("?", "at most 3 Days").is_in("so: **at most\n3 days**, or")
    assert not Asked("?", "").is_in("anything")
