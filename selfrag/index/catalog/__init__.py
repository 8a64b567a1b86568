"""The catalog: one SQLite file a collection, the truth about sources, chunks and embeddings."""
