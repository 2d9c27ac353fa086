"""Beside other libraries: their optimizers as ours, against the same optimizers bare.

Each case is a pair of steps over one θ, taken in turns. Both take the same steps first, and must then be at the same θ.
"""

import sys

import numpy as np

from sk_analytic.parameters import Layout

from . import peers
from .figures import Figure
from .timing import compare

ROW = "torch_optimizers"
SIZES = (1_000, 1_000_000)
STEPS = 5
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}


def measure(options):
    """Yield a figure for each case, dtype and size."""
    for name, (needs, make, goal) in CASES.items():
        if not options.picks(name):
            continue
        for dtype in options.dtypes:
            for size in options.sizes_or(SIZES, (1_000,)):
                case = f"{name} {dtype} {size:.0e}"
                if peers.find(*needs) is None:
                    yield Figure(ROW, case, needs[-1], note=peers.why_missing(*needs))
                    continue
                yield _figure(options, case, make, goal if size == SIZES[-1] else None, dtype, size)


def _figure(options, case, make, goal, dtype, size):
    ours, theirs, thetas = make(size, np.dtype(dtype))
    for _ in range(STEPS):
        ours()
        theirs()
    one, other = map(np.array, thetas())
    difference = float(np.linalg.norm(one - other) / np.linalg.norm(other - 1))
    pair = compare(ours, theirs, **options.pairing)
    return Figure.of(ROW, case, "bare", pair, goal=goal, difference=difference, tolerance=TOLERANCE[dtype])


def _torch_here(size, dtype, **settings):
    """A step of ours with an optimizer of torch, and one of torch alone; θ is two blocks."""
    torch = peers.find("torch")
    from sk_analytic.interop.torch import TorchOptimizer

    g = np.random.default_rng(0).standard_normal(size).astype(dtype)
    vector, half = np.ones(size, dtype), size // 2
    layout = Layout.of((vector[:half], vector[half:]), dtype)
    optimizer = TorchOptimizer(torch.optim.Adam, lr=1e-3, **settings)
    step = optimizer.step_function(optimizer.init(vector, blocks=layout), vector)
    tensors = [
        torch.ones(half, dtype=getattr(torch, dtype.name)),
        torch.ones(size - half, dtype=getattr(torch, dtype.name)),
    ]
    for tensor, part in zip(tensors, (g[:half], g[half:]), strict=True):
        tensor.requires_grad_().grad = torch.tensor(part)
    bare = torch.optim.Adam(tensors, lr=1e-3, **settings)
    return lambda: step(g), bare.step, lambda: (vector, torch.cat(tensors).detach().numpy())


def _fused_torch_here(size, dtype):
    return _torch_here(size, dtype, fused=True)


CASES = {
    "torch's Adam here": (("torch",), _torch_here, None),
    "torch's fused Adam here": (("torch",), _fused_torch_here, 1.2),
}
"""By name: the peers that it needs, what makes both sides, and the goal for the largest θ."""


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
