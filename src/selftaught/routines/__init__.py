"""Procedures over a run that several methods share."""
