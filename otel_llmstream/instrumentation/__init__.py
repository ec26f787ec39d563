"""The hooks into other libraries, and nothing else."""
