"""Learning from preferences between answers."""
