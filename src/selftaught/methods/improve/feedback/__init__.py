"""Learning from critiques and revisions."""
