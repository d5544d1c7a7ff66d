"""A step of training as kernels: what a framework launches for a model that is cut over ranks."""
