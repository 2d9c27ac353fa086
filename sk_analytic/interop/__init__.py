"""Beside other libraries: what torch and jax users bring along, and take away. Nothing here is imported by itself."""
