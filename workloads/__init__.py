"""What is computed: ops, programs, models, and the workloads that make them."""
