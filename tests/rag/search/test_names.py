"""Which documents a question names."""

from __future__ import annotations

from client.qdrant.bm25 import Bm25Encoder
from rag.search.names import MAX_NAMED, named_documents
from tests.support.tables import each

TERMS = Bm25Encoder().terms
NAMES = (
    "NORTHERNGRAINMILLS_2021_10K.pdf",
    "NORTHERNGRAINMILLS_2022_10K.pdf",
    "Fennwick_2022_annual_report.pdf",
    "3K_2022_10K.pdf",
    "pump_service_manual.docx",
    "A_survey_of_tides_and_currents_in_northern_seas.pdf",
    *(f"{name}_2022_annual_report.pdf" for name in ("Elmstead", "Tarnbrook", "Hazelby", "Merrow", "Quillan")),
)


def named(question: str, *more: str) -> list[str]:
    """Return the names of the documents that a question names, best first."""
    fits = named_documents(question, {name: name for name in (*NAMES, *more)}, TERMS)
    return sorted(fits, key=lambda name: -fits[name])


@each(
    "question, best",
    [
        ("What were Northern Grain Mills' sales in 2021?", NAMES[:2]),
        ("What were Northern Grain Mills's sales in FY2022?", (NAMES[1], NAMES[0])),
        ("Fennwick: net revenue?", NAMES[2:3]),
        ("How much did 3K spend?", NAMES[3:4]),
        ("What does the pump service manual say of leaks?", NAMES[4:5]),
        ("How strong are the currents?", ()),
        ("What were the sales in the annual reports?", ()),
        ("Which seas are the most northern?", ()),
    ],
)
def test_a_document_is_named_by_most_words_of_its_name(question: str, best: tuple[str, ...]) -> None:
    assert named(question) == list(best)


def test_documents_that_fit_as_well_as_the_last_are_all_named() -> None:
    years = [f"Oakham_{year}_10K.pdf" for year in range(2001, 2021)]
    assert set(named("What did Oakham earn?", *years)) == set(years)
    assert len(named("What did Oakham earn?", *years[:MAX_NAMED])) == MAX_NAMED
    assert named("What did Oakham earn in 2007?", *years)[0] == "Oakham_2007_10K.pdf"


def test_a_single_document_is_not_chosen() -> None:
    assert named_documents("Fennwick annual report", {"u1": "Fennwick_annual_report.pdf"}, TERMS) == {}
