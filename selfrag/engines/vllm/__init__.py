"""vLLM: in process, and as a server that `selfrag serve` starts."""
