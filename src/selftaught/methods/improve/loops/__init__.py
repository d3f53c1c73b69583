"""Loops over several of the other families."""
