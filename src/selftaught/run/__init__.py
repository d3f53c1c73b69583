"""The run: its verbs, and what they are made of."""
