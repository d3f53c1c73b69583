"""Online learning: rollouts, credit, importance weights, the loop."""
