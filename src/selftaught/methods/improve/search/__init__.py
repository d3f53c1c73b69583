"""Learning from what a search finds."""
