"""The local engine: torch in this process, one decoding step for all rows."""
