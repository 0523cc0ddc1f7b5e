"""Documents of four kinds, made from a seed, and questions whose right pages are known.

Filings that are alike, with joined names; manuals; papers; speeches. Questions use other words than the documents where
a reader would, and half of those about filings say in which form to answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from rag.eval.metrics import Question
from schemas import Document, Page

SEED = 16
COMPANIES = ("Hazel Grain", "Merrow", "Tarn Brook Steel", "Quillan", "Elm Stead Foods", "Oakham", "Fenn Wick", "Pell")
YEARS = (2021, 2022, 2023)
# The line of a statement, the words of a question for it, and the statement.
LINES = (
    ("Purchases of property and equipment", "capital expenditure", "cash flow statement"),
    ("Net cash from operating activities", "cash from operations", "cash flow statement"),
    ("Dividends paid", "dividend payments", "cash flow statement"),
    ("Total current liabilities", "total current liabilities", "balance sheet"),
    ("Inventories", "inventories", "balance sheet"),
    ("Trade and other receivables", "receivables", "balance sheet"),
    ("Cost of goods sold", "cost of sales", "income statement"),
    ("Research and development", "R&D spending", "income statement"),
    ("Provision for income taxes", "income tax expense", "income statement"),
)
FORMS = (
    "What is the FY{year} {item} for {company}? Give a response by relying on the details shown in the {statement}.",
    "How much was {company}'s {item} in {year}? Format: integer, in millions.",
    "{company} {year}: {item}?",
    "According to the {statement} of {company}, what was the {item} in fiscal {year}?",
)
PRODUCTS = ("Corvid pump", "Alder saw", "Linnet heater", "Wren mixer")
FAULTS = (
    ("the motor hums but does not turn", "Release the brake and free the shaft with the key."),
    ("water drips from the housing", "Renew the ring seal and tighten the four screws crosswise."),
    ("the display stays dark", "Replace the fuse behind the rear flap with one of 2 A."),
    ("it switches itself off after a minute", "Clean the air inlet: the thermal cut-out has opened."),
    ("it smells of burning", "Pull the plug and let a workshop inspect the winding."),
    ("the noise grows louder by the day", "Grease both bearings with the supplied tube."),
)
SUBJECTS = ("reed beds", "lichen", "tidal mills", "clay tiles", "larch bark", "peat smoke")
FINDINGS = (
    ("the sample size", "We examined {n} specimens from {m} sites.", "How many specimens were studied?"),
    ("the decline", "Cover fell by {n} per cent within {m} years.", "By how much did cover decrease?"),
    (
        "the method",
        "Spectra were recorded at {n} K after drying for {m} hours.",
        "At what temperature were spectra taken?",
    ),
    (
        "the cost",
        "Restoration costs {n} crowns a hectare, of which labour is {m} per cent.",
        "What does restoration cost?",
    ),
    (
        "the limit",
        "Beyond {n} metres above the sea none survived {m} winters.",
        "Up to which altitude does it survive?",
    ),
)
TOPICS = (
    (
        "harbour",
        "We shall deepen the harbour by {n} feet before {m} ships are turned away.",
        "What is planned for the port?",
    ),
    ("schools", "Every school of the county gets {n} teachers more, and {m} classrooms.", "What do pupils gain?"),
    ("bread", "The price of a loaf is held at {n} pence for {m} months.", "How is food kept cheap?"),
    ("forests", "For each tree that is felled {n} are planted, on {m} estates.", "How are woods renewed?"),
    ("soldiers", "Of our {n} soldiers abroad {m} hundred come home by spring.", "When do troops return?"),
    ("railways", "The line to the north opens with {n} stations and {m} trains a day.", "What is said of trains?"),
)
FILLER = (
    "This part describes what is general and holds no figures of its own.",
    "Readers are asked to compare this part with the one of the year before.",
    "Conditions may change, and no statement here is a promise.",
    "The board, the staff and the public were heard before this was written.",
    "Further particulars are kept at the office and shown on request.",
)
Made = tuple[str, list[str]]


def made_sets() -> dict[str, tuple[list[tuple[Document, list[Page]]], list[Question]]]:
    """Return the documents and the questions of each kind."""
    kinds = {"filings": _filings, "manuals": _manuals, "papers": _papers, "speeches": _speeches}
    sets = {}
    for kind, make in kinds.items():
        questions: list[Question] = []
        documents = [_document(kind, name, pages) for name, pages in make(random.Random(SEED), questions)]
        random.Random(SEED).shuffle(questions)
        sets[kind] = (documents, questions)
    return sets


def _filings(chance: random.Random, questions: list[Question]) -> Iterator[Made]:
    for company in COMPANIES:
        for year in YEARS:
            name = f"{company.replace(' ', '').upper()}_{year}_10K.pdf"
            pages = [f"{company} Inc.\nAnnual report for the fiscal year {year}", _prose(chance, company, 3)]
            for statement in ("income statement", "balance sheet", "cash flow statement"):
                rows = [line for line in LINES if line[2] == statement]
                pages.append(f"Discussion of the {statement}\n{_prose(chance, company, 4)} " + _discussion(rows))
                pages.append(_statement(chance, company, statement, rows, year))
                for _, item, _ in rows:
                    form = chance.choice(FORMS)
                    asked = form.format(year=year, item=item, company=company, statement=statement)
                    questions.append(Question(question=asked, upload=name, pages=(len(pages),)))
                pages.append(f"Notes to the {statement}\n{_prose(chance, company, 5)} " + _discussion(rows[:2]))
            yield name, pages


def _statement(chance: random.Random, company: str, statement: str, rows: list[tuple[str, str, str]], year: int) -> str:
    head = f"{company} Inc.\nConsolidated {statement}, in millions\nYears ended 31 December  {year}  {year - 1}\n"
    return head + "\n".join(
        f"{line}  {chance.randint(100, 9999):,}  {chance.randint(100, 9999):,}" for line, _, _ in rows
    )


def _discussion(rows: list[tuple[str, str, str]]) -> str:
    return " ".join(f"Changes of {line.lower()} follow the market." for line, _, _ in rows)


def _manuals(chance: random.Random, questions: list[Question]) -> Iterator[Made]:
    for product in PRODUCTS:
        name = f"{product.replace(' ', '_')}_manual.pdf"
        pages = [f"{product}\nInstructions for use, edition {chance.randint(2, 9)}", _prose(chance, product, 5)]
        questions.append(Question(question=f"Which edition is the manual of the {product}?", upload=name, pages=(1,)))
        for symptom, remedy in chance.sample(FAULTS, len(FAULTS)):
            pages.append(
                f"Fault {len(pages)}\n{_prose(chance, product, 3)} If {symptom}: {remedy} {_prose(chance, product, 3)}"
            )
            questions.append(
                Question(question=f"The {product}: what helps when {symptom}?", upload=name, pages=(len(pages),))
            )
            questions.append(
                Question(
                    question=f"What does page {len(pages)} of the {product} manual advise?",
                    upload=name,
                    pages=(len(pages),),
                )
            )
        yield name, pages


def _papers(chance: random.Random, questions: list[Question]) -> Iterator[Made]:
    for subject in SUBJECTS:
        name = f"Observations_on_{subject.replace(' ', '_')}_of_the_coast.pdf"
        author = f"{chance.choice('ABCDE')}. {chance.choice(('Ruddock', 'Selwyn', 'Tamsin', 'Vale'))}"
        pages = [f"Observations on {subject} of the coast\n{author}\n{_prose(chance, subject, 4)}"]
        questions.append(Question(question=f"Who are the authors of the paper on {subject}?", upload=name, pages=(1,)))
        for _, sentence, asked in chance.sample(FINDINGS, len(FINDINGS)):
            finding = sentence.format(n=chance.randint(11, 99), m=chance.randint(2, 10))
            pages.append(f"{_prose(chance, subject, 6)} {finding} {_prose(chance, subject, 6)}")
            questions.append(
                Question(question=f"{asked[:-1]} in the work on {subject}?", upload=name, pages=(len(pages),))
            )
        yield name, pages


def _speeches(chance: random.Random, questions: list[Question]) -> Iterator[Made]:
    for year in (1903, 1911, 1926):
        name = f"address_{year}.pdf"
        pages = [f"Address to the county council, {year}. {_prose(chance, 'county', 5)}"]
        for topic, sentence, asked in chance.sample(TOPICS, len(TOPICS)):
            said = sentence.format(n=chance.randint(11, 99), m=chance.randint(2, 10))
            pages.append(f"{_prose(chance, 'county', 5)} {said} {_prose(chance, topic, 2)}")
            questions.append(
                Question(question=f"{asked[:-1]} in the address of {year}?", upload=name, pages=(len(pages),))
            )
        yield name, pages


def _prose(chance: random.Random, subject: str, sentences: int) -> str:
    return " ".join(f"On {subject}: {chance.choice(FILLER)}" for _ in range(sentences))


def _document(kind: str, name: str, texts: list[str]) -> tuple[Document, list[Page]]:
    pages = [Page(number=n, label=str(n), text=text) for n, text in enumerate(texts, start=1)]
    return Document(upload_id=name, path=name, name=name, user_id=kind), pages
