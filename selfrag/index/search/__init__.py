"""From a query to passages: dense and full-text search, fusion, near-duplicates, HyDE."""
