"""Critique and revise."""
