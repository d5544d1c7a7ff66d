"""A step of training on a machine: kernels timed once, layers and micro-batches counted, stages in their order."""
