"""Online learning: rollouts, credit assignment, importance weights, and the training loop."""
