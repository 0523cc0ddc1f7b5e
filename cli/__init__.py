"""Commands that a person types: start, API keys, dead letters, audit, evaluation. No HTTP, no retrieval."""
