"""Training: the loop, the full-batch methods, progress, and what is said where they diverge."""
