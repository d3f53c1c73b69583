"""Training reward models that score answers, and choosing by their scores."""
