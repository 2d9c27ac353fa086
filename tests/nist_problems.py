"""Nonlinear regression problems of NIST's Statistical Reference Datasets, with certified parameters.

The files are those of https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml, in the public domain.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent / "nist"


def _two_peaks(b, x):
    peaks = b[2] * np.exp(-((x - b[3]) ** 2) / b[4] ** 2) + b[5] * np.exp(-((x - b[6]) ** 2) / b[7] ** 2)
    return b[0] * np.exp(-b[1] * x) + peaks


def _three_decays(b, x):
    return b[0] * np.exp(-b[1] * x) + b[2] * np.exp(-b[3] * x) + b[4] * np.exp(-b[5] * x)


def _saturation(b, x):
    return b[0] * (1 - np.exp(-b[1] * x))


def _chwirut(b, x):
    return np.exp(-b[0] * x) / (b[1] + b[2] * x)


def _cubics(b, x):
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


MODELS = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": _saturation,
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": lambda b, x: (
        b[0]
        + b[1] * np.cos(2 * np.pi * x / 12)
        + b[2] * np.sin(2 * np.pi * x / 12)
        + b[4] * np.cos(2 * np.pi * x / b[3])
        + b[5] * np.sin(2 * np.pi * x / b[3])
        + b[7] * np.cos(2 * np.pi * x / b[6])
        + b[8] * np.sin(2 * np.pi * x / b[6])
    ),
    "Eckerle4": lambda b, x: b[0] / b[1] * np.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _two_peaks,
    "Gauss2": _two_peaks,
    "Gauss3": _two_peaks,
    "Hahn1": _cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": _three_decays,
    "Lanczos2": _three_decays,
    "Lanczos3": _three_decays,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * np.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * np.exp(-x * b[3]) + b[2] * np.exp(-x * b[4]),
    "Misra1a": _saturation,
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x, x2: b[0] - b[1] * x * np.exp(-b[2] * x2),  # of log(y)
    "Rat42": lambda b, x: b[0] / (1 + np.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + np.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi,
    "Thurber": _cubics,
}


class Problem(NamedTuple):
    """What a file says: the rows, two starts, the certified parameters and their standard deviations."""

    X: np.ndarray
    y: np.ndarray
    starts: np.ndarray
    parameters: np.ndarray
    deviations: np.ndarray


def read(name):
    """Read a problem."""
    lines = (FOLDER / f"{name}.dat").read_text().splitlines()
    header = "\n".join(lines[:12])
    begin, end = map(int, re.search(r"Certified Values +\(lines +(\d+) to +(\d+)\)", header).groups())
    table = [line.split("=")[1].split() for line in lines[begin - 1 : end] if re.match(r" *b\d+ =", line)]
    first, last = map(int, re.search(r"Data +\(lines +(\d+) to +(\d+)\)", header).groups())
    data = np.array([line.split() for line in lines[first - 1 : last]], dtype=float)
    values = np.array(table, dtype=float).T
    y = np.log(data[:, 0]) if name == "Nelson" else data[:, 0]
    return Problem(data[:, 1:], y, values[:2], values[2], values[3])


def functions(name):
    """The model as two functions of an array of parameters; derivatives are exact to rounding, by complex steps."""
    model = MODELS[name]

    def forward(params, X):
        return model(params, *X.T)

    def jacobian(params, X):
        steps = params.astype(complex) + 1e-150j * np.eye(len(params)) * np.maximum(np.abs(params), 1e-10)[:, None]
        return np.stack([model(b, *X.T).imag / b.imag.max() for b in steps], axis=1)

    return forward, jacobian
