"""Chunks in Qdrant, on a server or embedded, behind one description of a search. Ranking is in rag/search."""
