"""Answers: their JSON schema, traces, citations, re-ranking of a stored search, and rendering."""
