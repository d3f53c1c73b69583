"""Sample and vote."""
