"""How Sphinx builds the documentation. Nothing is fetched from anywhere during a build."""

import inspect
import re
from pathlib import Path

import sk_analytic
from sk_analytic import get_optimizer, get_optimizer_names
from sk_analytic.display import DOCUMENTATION
from sk_analytic.gradient_check import Cause
from sk_analytic.losses import get_loss, get_loss_names
from sk_analytic.readable import ReadableSignature

project = "sk_analytic"
author = "sk_analytic developers"
copyright = "2026, sk_analytic developers"
version = release = sk_analytic.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"
nitpicky = False  # types in docstrings are words for readers, "array-like of shape (n,)"

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # it would write out what their names stand for; see `with_written_types`
maximum_signature_line_length = 80  # of a longer one each parameter has a line
numpydoc_show_class_members = False  # the class template lists them

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_pre_code = """
import numpy as np
import matplotlib.pyplot as plt
from sk_analytic.optimizers import *


def show(*schedules, losses=()):
    \"\"\"Draw schedules over 100 units, and the losses that they see.\"\"\"
    state = SGD().init(np.zeros(1))
    curves = [[] for _ in schedules]
    for state.step in range(100):
        state.epoch = state.step
        for curve, schedule in zip(curves, schedules):
            curve.append(schedule.at(state))
        state.loss_curve.extend(losses[state.step : state.step + 1])
    figure, axes = plt.subplots(figsize=(5, 2), layout="constrained")
    if losses:
        axes.plot(losses, color="0.7")
    for curve, dashes in zip(curves, ("-", "--")):
        axes.step(range(100), curve, dashes, where="post")
    axes.set(xlim=(0, 99), ylim=(0, None), xlabel=schedules[0].unit, ylabel="value")
"""

html_theme = "pydata_sphinx_theme"
html_baseurl = f"{DOCUMENTATION}/"
html_title = f"sk_analytic {release}"
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}

GENERATED = Path(__file__).parent / "generated"


def skip_foreign_members(app, what, name, member, skip, options):
    """Leave out what a class inherits from scikit-learn or Python: it is documented there."""
    if what != "class" or name.startswith("_"):
        return None
    function = inspect.unwrap(getattr(member, "fget", None) or member)
    home = (getattr(function, "__module__", None) or "").partition(".")[0]
    return None if home == "sk_analytic" else True


def with_written_types(app, what, name, thing, options, signature, returns):
    """Signature and return type of a class or function, with types by the names that its source gives them."""
    if not signature or not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return None
    shown = ReadableSignature.of(inspect.signature(thing))
    returns = None if inspect.isclass(thing) or shown.return_annotation is shown.empty else str(shown.return_annotation)
    parameters = [p for p in shown.parameters.values() if p.name != "self"]
    return shown.replace(parameters=parameters, return_annotation=shown.empty).format(), returns


def table(rows, *options):
    """Lines of a table in reStructuredText, its first row the head; a cell may have several lines."""
    lines = [".. list-table::", "   :header-rows: 1", *options, ""]
    for cells in rows:
        for index, cell in enumerate(cells):
            first, *rest = cell.splitlines()
            lines += [f"   {'* -' if index == 0 else '  -'} {first}", *(f"       {line}".rstrip() for line in rest)]
    return "\n".join(lines) + "\n"


def with_defaults(cls):
    """The hyperparameters of a class, with defaults."""
    settings = inspect.signature(cls).parameters.values()
    return ", ".join(f"``{setting.name}={setting.default!r}``" for setting in settings) or "none"


def table_of_optimizers():
    """The optimizers that have a name, from their classes."""
    rows = [("name", "class", "hyperparameters, with defaults")]
    for name in get_optimizer_names():
        cls = type(get_optimizer(name))
        rows.append((f'``"{name}"``', f":class:`~sk_analytic.optimizers.{cls.__name__}`", with_defaults(cls)))
    return table(rows)


def table_of_losses():
    """The losses that have a name, from their classes: the body of the docstring is the value of a row."""
    rows = [("name and class", "value of a row, domain of y, the same in scikit-learn", "parameters", "link")]
    for name in get_loss_names():
        loss = get_loss(name)
        cls = type(loss)
        body = re.split(r"\n(?:Parameters|Examples)\n---", inspect.getdoc(cls))[0].partition("\n\n")[2].strip()
        heading = f'``"{name}"`` :class:`~sk_analytic.losses.{cls.__name__}`'
        rows.append((heading, body, with_defaults(cls), loss.link))
    return table(rows, "   :widths: 20 56 16 8")


def table_of_causes(verdict):
    """The causes of findings with a verdict, from their classes: by rank."""
    causes = sorted(Cause.table.values(), key=lambda cause: cause.rank)
    rows = [(f"``{cause.identifier}``", cause.verdict, cause.meaning) for cause in causes if cause.verdict == verdict]
    return table([("cause", "verdict", "meaning"), *rows], "   :widths: 22 12 66")


def write_tables(app):
    """Write the tables that pages include."""
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "optimizers.inc").write_text(table_of_optimizers(), encoding="utf-8")
    (GENERATED / "faults.inc").write_text(table_of_causes("wrong"), encoding="utf-8")
    (GENERATED / "doubts.inc").write_text(table_of_causes("cannot tell"), encoding="utf-8")
    (GENERATED / "remarks.inc").write_text(table_of_causes("right"), encoding="utf-8")
    (GENERATED / "losses.inc").write_text(table_of_losses(), encoding="utf-8")


def setup(app):
    app.connect("builder-inited", write_tables)
    app.connect("autodoc-skip-member", skip_foreign_members)
    app.connect("autodoc-process-signature", with_written_types)
