"""Ours beside other libraries: each subpackage imports its library, and nothing of ours imports them."""
