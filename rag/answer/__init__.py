"""From passages to an answer: prompt, stream, follow-ups, links. Citations are checked in rag/citations."""
