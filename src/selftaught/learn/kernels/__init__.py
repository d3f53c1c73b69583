"""What makes a training step fast: packing, fused layers, logits, the optimizer."""
