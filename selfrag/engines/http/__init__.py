"""Models behind an HTTP server: the OpenAI-compatible completion and chat APIs."""
