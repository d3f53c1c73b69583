"""The run: its verbs, and the parts each of them stands on."""
