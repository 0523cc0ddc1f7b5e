"""The lines of financial statements that questions ask for by another name, such as capex."""

from __future__ import annotations

import re

# What people write, and the words of the line that has the figure.
_LINES = {
    r"capital expenditures?|capex|capital[- ]intensive": "purchases additions property plant equipment capital",
    r"cogs|cost of (?:goods sold|sales|revenues?)": "total cost sales revenue goods products sold",
    r"revenues?|(?:net )?sales|top ?line": "total net revenue sales",
    r"gross (?:margins?|profits?|income)": "gross profit margin total revenue cost sales",
    r"operating (?:margins?|profits?|income|earnings)|ebit": "operating income profit earnings",
    r"net (?:income|profit|earnings|loss)|bottom ?line": "net income earnings loss attributable",
    r"ebitda|d&a|depreciation": "depreciation amortization operating income",
    r"pp&e|ppn?e|fixed assets": "property plant equipment net",
    r"sg&a": "selling general administrative",
    r"r&d": "research development",
    r"eps|earnings per share": "earnings per share basic diluted",
    r"inventor(?:y|ies)|dio|days inventory": "total merchandise inventories inventory",
    r"dso|days sales|receivables?": "accounts trade receivable receivables net",
    r"dpo|days payables?|payables?": "accounts trade payable payables",
    r"quick ratio|current ratio|working capital|liquidity": "total current assets liabilities",
    r"effective tax rate": "effective income tax rate provision before taxes",
    r"dividends?": "cash dividends paid declared per share",
}
_ASKED = [(re.compile(rf"\b(?:{asked})\b", re.IGNORECASE), line) for asked, line in _LINES.items()]


def line_words(question: str) -> str:
    """Return the words by which statements name what a question asks for; empty if it names nothing known."""
    return " ".join(line for asked, line in _ASKED if asked.search(question))
