"""An evaluation as one HTML file with plots, which loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rag.eval.metrics import HITS, Outcome, Summary

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.35rem .6rem;text-align:left;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{background:#fdecea}.muted{color:#666}
svg text{font:12px system-ui,sans-serif}details{margin:.1rem 0}@media(prefers-color-scheme:dark){
body{background:#161616;color:#eee}td,th{border-color:#333}.bad{background:#402020}
svg text{fill:#eee}.muted{color:#aaa}}"""
_BLUE, _GREY = "#2563a8", "#d5dbe3"
# Sizes in the plots, in pixels: the width of the names, the width of the longest bar, the height of a row.
_LEFT, _WIDTH, _ROW = 190, 420, 26


def figures(summary: Summary) -> list[tuple[str, str]]:
    """Return the name and the printed form of each figure."""
    return [
        ("questions", f"{summary.questions}, {summary.answerable} of them answerable"),
        *((f"page hit@{k}", percent(summary.hit[k])) for k in HITS),
        ("MRR", "–" if summary.mrr is None else f"{summary.mrr:.3f}"),
        ("citations of a right page", percent(summary.citation_precision)),
        ("answers that cite a right page", percent(summary.cited_right_page)),
        ("answers with the expected text", percent(summary.contains_expected)),
        ("unanswerable refused", percent(summary.refused)),
        ("answerable refused", percent(summary.wrongly_refused)),
        ("citations removed", str(summary.unsupported)),
        ("seconds, p50 / p95", f"{summary.p50:.3f} / {summary.p95:.3f}"),
        ("median seconds by stage", ", ".join(f"{name} {value:.4f}" for name, value in summary.stages.items())),
    ]


def percent(share: float | None) -> str:
    """Return the printed form of a share; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def html_report(title: str, summary: Summary, outcomes: Sequence[Outcome]) -> str:
    """Return the report as an HTML document."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in figures(summary))
    questions = "".join(_row(n, outcome) for n, outcome in enumerate(outcomes, start=1))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<table>{rows}</table>
<h2>Shares</h2>
{_bars(summary)}
<h2>Rank of the first right page</h2>
{_ranks(outcomes)}
<h2>Questions</h2>
<table><tr><th>#</th><th>Question</th><th>Right pages</th><th>Rank</th><th>Answer</th></tr>{questions}</table>
</body></html>
"""


def _row(number: int, outcome: Outcome) -> str:
    """Return a row of the table of questions.

    A row is marked as bad unless a right page ranks first, or an unanswerable question was refused.
    """
    question, answer = outcome.question, outcome.answer
    good = outcome.rank == 1 if question.answerable else not answer.answered
    right_pages = ", ".join(map(str, question.pages)) if question.answerable else "unanswerable"
    quotes = "; ".join(f"[{s.n}] {s.name}, page {s.page}: “{' '.join(s.quote.split())}”" for s in answer.sources)
    return (
        f'<tr{"" if good else " class=bad"}><td class="n">{number}</td><td>{escape(question.question)}'
        f'<div class="muted">{escape(question.upload or "")}</div></td><td>{escape(right_pages)}</td>'
        f'<td class="n">{outcome.rank or "–"}</td><td><details><summary>{"answered" if answer.answered else "refused"}'
        f"</summary>{escape(answer.text)}<div class=muted>{escape(quotes)}</div></details></td></tr>"
    )


def _bars(summary: Summary) -> str:
    shares = [
        *((f"page hit@{k}", summary.hit[k]) for k in HITS),
        ("right citations", summary.citation_precision),
        ("expected text", summary.contains_expected),
        ("unanswerable refused", summary.refused),
        ("answerable refused", summary.wrongly_refused),
    ]
    return _plot([(name, share or 0.0, percent(share)) for name, share in shares])


def _ranks(outcomes: Sequence[Outcome]) -> str:
    """Plot the number of questions for each rank of the first right page."""
    ranks = [outcome.rank for outcome in outcomes if outcome.question.answerable and outcome.question.pages]
    groups = [("1", 1, 1), ("2 – 3", 2, 3), ("4 – 5", 4, 5), ("6 – 10", 6, 10), ("later", 11, 10**9)]
    counts = [(name, sum(rank is not None and low <= rank <= high for rank in ranks)) for name, low, high in groups]
    counts.append(("not found", sum(rank is None for rank in ranks)))
    return _plot([(name, count / max(1, len(ranks)), str(count)) for name, count in counts])


def _plot(bars: list[tuple[str, float, str]]) -> str:
    """Return an SVG image of horizontal bars; each bar is a name, a length from 0 to 1, and a label."""
    drawn = "".join(
        f'<text x="{_LEFT - 10}" y="{n * _ROW + 17}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{n * _ROW + 4}" width="{_WIDTH}" height="{_ROW - 8}" fill="{_GREY}" opacity=".35"/>'
        f'<rect x="{_LEFT}" y="{n * _ROW + 4}" width="{share * _WIDTH:.1f}" height="{_ROW - 8}" fill="{_BLUE}"/>'
        f'<text x="{_LEFT + _WIDTH + 8}" y="{n * _ROW + 17}">{escape(label)}</text>'
        for n, (name, share, label) in enumerate(bars)
    )
    return f'<svg width="{_LEFT + _WIDTH + 90}" height="{len(bars) * _ROW}" role="img">{drawn}</svg>'
