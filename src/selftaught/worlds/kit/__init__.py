"""The kit of synthetic worlds: writers with exact distributions, their language, roles, lessons and tabular twins."""
