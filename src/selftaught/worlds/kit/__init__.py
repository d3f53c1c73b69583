"""What worlds are made of, and how they are calibrated."""
