"""Fast training steps: packing, fused layers, chunked logits, a split-weight optimizer."""
