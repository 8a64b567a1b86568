"""The Self-RAG algorithm: reflection tokens and scores, prompt grammar, beam, search. Pure: it reaches models and documents
through the protocols of `selfrag.types` alone.
"""
