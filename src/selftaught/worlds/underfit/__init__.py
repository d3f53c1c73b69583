"""The underfit world: step-by-step problems in a fixed small language, and a small model trained on it."""
