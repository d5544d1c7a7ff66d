"""What computes: systolic arrays, tensor engines, vector units, GPU SMs."""
