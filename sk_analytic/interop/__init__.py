"""Use torch and jax together with this package. The modules must be imported explicitly."""
