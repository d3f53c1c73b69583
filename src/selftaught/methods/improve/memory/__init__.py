"""Recipes that give a policy notes, and train no weights."""
