"""The catalog: one SQLite file per collection, the source of truth for sources, chunks and embeddings."""
