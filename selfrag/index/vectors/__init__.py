"""The vectors in Chroma, a replica that is rebuilt from the catalog at any time."""
