"""How many claims the check of citations keeps and catches: `make bench-answers`.

Each claim of `claims.txt` and `claims-locked.txt` is a reply with one citation. It is checked as a model gives it that
quotes the words it relies on (`quoting`), with the verdict of a judge that is right 95 % of the time (`judged`), as a
model gives it that writes numbers alone (`bare`), the same where the model was given no other passage (`alone`), and by
a baseline of eight lines. Of true claims those kept count, of all others those caught: citation taken out, or
`verified: false`, or no answer.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from bench.answers.claims import FALSE, OTHER_PART, OTHER_SOURCE, REFUSAL, TRUE, Claim, read_claims
from client.qdrant.bm25 import Bm25Encoder
from rag.citations.check import Assessment, Verdicts
from schemas import Chunk, Passage

JUDGE_IS_RIGHT = 0.95
ROWS = (("true", TRUE), ("false", FALSE), *((kind, (kind,)) for kind in (OTHER_SOURCE, OTHER_PART, REFUSAL)))
TERMS = Bm25Encoder().terms

Check = Callable[[Claim], bool]


def baseline(claim: Claim) -> bool:
    """Return True if the passage holds half of the claim's terms and every number."""
    terms, numbers = TERMS(claim.text), re.findall(r"\d+", claim.text)
    enough = len(terms & TERMS(claim.passage)) >= len(terms) / 2
    return enough and set(numbers) <= set(re.findall(r"\d+", claim.passage))


def bare(claim: Claim) -> bool:
    """Return True if the claim stays, cited by a number alone."""
    return stays(assess(claim, ""), {})


def alone(claim: Claim) -> bool:
    """Return True if the claim stays, cited by a number alone, with no passage to compare with."""
    return stays(assess(replace(claim, beside=()), ""), {})


def quoting(claim: Claim) -> bool:
    """Return True if the claim stays, cited with the words that a model quotes."""
    return stays(assess(claim, f' "{claim.words}"'), {})


def judged(draw: random.Random) -> Check:
    """Return a check with a judge that is right 95 % of the time."""

    def check(claim: Claim) -> bool:
        assessment = assess(claim, f' "{claim.words}"')
        is_right = draw.random() < JUDGE_IS_RIGHT
        return stays(assessment, {one: claim.is_true == is_right for one, _ in assessment.to_judge})

    return check


def assess(claim: Claim, words: str) -> Assessment:
    """Return the check of a reply that makes one claim."""
    passages = [_passage(text) for text in (claim.passage, *claim.beside)]
    return Assessment(f"{claim.text.rstrip('.')} [1{words}].", passages, claim.question, TERMS)


def _passage(text: str) -> Passage:
    chunk = Chunk(
        id="c", upload_id="u", user_id="local", name="a.pdf", index=0, page=1, page_label="1", start=0, end=len(text),
        text=text,
    )  # fmt: skip
    return Passage(chunk=chunk, score=1.0)


def stays(assessment: Assessment, verdicts: Verdicts) -> bool:
    """Return True if the citation stays and nothing denies it."""
    checked = assessment.conclude(verdicts)
    return any(source.verified is not False for source in checked.sources)


def report(name: str) -> None:
    """Print one line for each kind of claim in a file."""
    claims = read_claims(name)
    checks = {
        "baseline": baseline, "alone": alone, "bare": bare, "quoting": quoting, "judged": judged(random.Random(name))
    }  # fmt: skip
    passed = {
        label: Counter(one.kind for one in claims if check(one) == one.is_true) for label, check in checks.items()
    }
    counts = Counter(claim.kind for claim in claims)
    print(f"\n{name}: {len(claims)} claims, {len({claim.passage for claim in claims})} passages")
    print(f"{'right, of true claims kept, of others caught':<46}" + "".join(f"{label:>10}" for label in checks))
    for row, kinds in (*ROWS, *((f"  {kind}", (kind,)) for kind in (*TRUE, *FALSE))):
        count = sum(counts[kind] for kind in kinds)
        shares = [sum(passed[label][kind] for kind in kinds) / count for label in checks]
        print(f"{row:<38}{count:>8}" + "".join(f"{share:>10.0%}" for share in shares))
