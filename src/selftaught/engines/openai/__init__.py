"""The engine on OpenAI-compatible endpoints: protocol, rate limits, failures."""
