"""Checking a method's claim: the method and its baselines on the same problems, at equal tokens, over seeds."""
