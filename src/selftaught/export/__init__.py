"""What leaves a run: its data for other trainers, and its champion as a model folder with a card."""
