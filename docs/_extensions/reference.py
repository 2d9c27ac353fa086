"""Sphinx extension for the reference: its tables and groups, signatures, numbered citations, links from the source."""

import inspect
import re

import tables
from sphinx.ext.autosummary import Autosummary

from sk_analytic.readable import ReadableSignature


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


class Summaries(Autosummary):
    """The summaries of a table, without references to citations that are on another page."""

    def get_items(self, names):
        cleaned = []
        for name, signature, summary, real_name in super().get_items(names):
            cleaned.append((name, signature, re.sub(r"\s*\[[\w-]+\]_", "", summary), real_name))
        return cleaned


def number_citations(app, what, name, thing, options, lines):
    """Number the citations of a docstring in their order, where the source has author and year."""
    text = "\n".join(lines)
    labels = dict.fromkeys(re.findall(r"^\s*\.\. \[([A-Za-z]\w*)\]", text, flags=re.MULTILINE))
    for number, label in enumerate(labels, 1):
        text = text.replace(f"[{label}]_", f"[{number}]_").replace(f".. [{label}]", f".. [{number}]")
    lines[:] = text.split("\n")


def repair_backlinks(app, pagename, templatename, context, doctree):
    """Anchors from source code to the reference; viewcode takes them all for members of one module."""
    if not pagename.startswith("_modules/"):
        return

    def repaired(link):
        page, name = link[1], link[1].rpartition(".")[2]
        return f"{page}.html#{page}{link[2].rpartition(f'.{name}')[2]}"

    context["body"] = re.sub(r"(?<=generated/)(sk_analytic[\w.]*)\.html#([\w.]+)", repaired, context["body"])


def setup(app):
    app.config.autosummary_context = {"groups": {module: tables.pages_of(module) for module in tables.public_modules()}}
    app.add_directive("autosummary", Summaries, override=True)
    app.connect("builder-inited", lambda app: tables.write(), priority=100)
    app.connect("autodoc-skip-member", skip_foreign_members)
    app.connect("autodoc-process-signature", with_written_types)
    app.connect("autodoc-process-docstring", number_citations, priority=100)
    app.connect("html-page-context", repair_backlinks)
    return {"parallel_read_safe": True}
