"""Judge answers."""
