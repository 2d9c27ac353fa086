"""How the links of an optimizer become a step: trace, program, run.

- `trace` calls the formulas with symbols and records their operations.
- `program` fuses the links that neighboring blocks pass into kernels, and writes one function of them.
- `many_steps` has what a compiled epoch needs in place of a step.
- `run` is what an optimizer's ``update`` calls.

`links` says where each link stands; `numpy_kernel` and `numba_kernel` turn recorded operations into code, which
round alike, to the bit, and `array_kernel` runs them in another namespace. `blocks` runs them on blocks that lie in
memory of their own, of other libraries. Imports run in this order: links, trace, numpy_kernel, numba_kernel,
array_kernel, blocks, program, many_steps, run.
"""
