"""The agent as a service: over HTTP (`api`), for chat front ends (`completions`) and for MCP clients (`mcp`).

`backend` is what they share: one open agent, asked through one queue. `registry` and `client` let `selfrag ask` find and use it.
"""
