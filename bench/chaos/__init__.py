"""Chaos: runs are killed, starved, moved and lied to at random moments, and must end as if nothing had happened."""
