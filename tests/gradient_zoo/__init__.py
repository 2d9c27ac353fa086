"""Two zoos for the gradient doctor: realistic faults, and right gradients that look suspicious."""
