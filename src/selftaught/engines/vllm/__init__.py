"""The engine on vLLM, which runs in processes of its own."""
