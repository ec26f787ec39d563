"""Layer 6: where we hook into other libraries, and nothing else."""
