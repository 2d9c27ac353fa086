"""What may be wrong with a gradient: a file for each family of faults, a class for each fault."""
