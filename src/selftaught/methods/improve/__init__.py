"""Methods that turn many problems into new weights."""
