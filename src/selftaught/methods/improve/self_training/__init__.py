"""Filtering one's own answers and training on them."""
