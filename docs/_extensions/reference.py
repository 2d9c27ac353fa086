"""Sphinx extension for the reference.

Its tables and groups, members, signatures, numbered citations, links to the guide and from the source.
"""

import inspect
import re

import members
import tables
from docutils import nodes
from numpydoc.docscrape_sphinx import SphinxDocString
from sphinx.ext.autosummary import Autosummary

from sk_analytic.readable import ReadableSignature

SECTION = re.compile(r"^(?=[A-Z][A-Za-z ]+\n---+$)", flags=re.MULTILINE)


def without_types(app, what, name, thing, options, signature, returns):
    """Signature of a class or function without types, which its parameters describe; none for the class of a result."""
    if members.is_result(thing):
        return "", None
    if not signature or not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return None
    shown = ReadableSignature.of(inspect.signature(thing))
    parameters = [p.replace(annotation=p.empty) for p in shown.parameters.values() if p.name != "self"]
    return shown.replace(parameters=parameters, return_annotation=shown.empty).format(), None


class Summaries(Autosummary):
    """A table of names and summaries, without signatures and references to citations, which are on another page."""

    def get_items(self, names):
        self.options.setdefault("nosignatures", None)
        items = []
        for entry in names:
            full_name = entry.removeprefix("~")
            if full_name in tables.DATA:
                items.append((full_name.rpartition(".")[2], None, tables.DATA[full_name], full_name))
                continue
            for name, signature, summary, real_name in super().get_items([entry]):
                items.append((name, signature, re.sub(r"\s*\[[\w-]+\]_", "", summary), real_name))
        return items


def number_citations(app, what, name, thing, options, lines):
    """Number the citations of a docstring in their order, where the source has author and year."""
    text = "\n".join(lines)
    labels = dict.fromkeys(re.findall(r"^\s*\.\. \[([A-Za-z]\w*)\]", text, flags=re.MULTILINE))
    for number, label in enumerate(labels, 1):
        text = text.replace(f"[{label}]_", f"[{number}]_").replace(f".. [{label}]", f".. [{number}]")
    text = re.sub(r"(\.\. \[\w+\] )(?=[A-Z]\. )", r"\1\\", text)  # an initial begins no enumeration
    lines[:] = text.split("\n")


def complete(app, what, name, thing, options, lines):
    """Complete the docstring of a class or function: page of the guide, fields of a result, methods, code of plots."""
    text = "\n".join(lines).rstrip() + "\n"
    page = app.config.reference_guides.get(name)
    if page and not re.search(rf":doc:`[^`]*{page}>?`", text):
        start = SECTION.search(text).start() if SECTION.search(text) else len(text)
        link = ":doc:`User Guide </guide/index>`" if page == "guide/index" else f"User Guide: :doc:`/{page}`"
        text = f"{text[:start].rstrip()}\n\nRead more in the {link}.\n\n{text[start:]}"
    if members.is_result(thing):
        if re.search(r"^Attributes\n---", text, flags=re.MULTILINE):
            text = re.sub(r"(?s)^Parameters\n-+\n.*?\n(?=Attributes\n---)", "", text, flags=re.MULTILINE)
        text = re.sub(r"^Parameters\n-+$", "Attributes\n----------", text, flags=re.MULTILINE)
    shown = app.config.autosummary_context["documented"].get(name, []) if inspect.isclass(thing) else []
    methods = [member for member in shown if callable(getattr(thing, member))]
    if methods:
        text += "\n".join(["", "Methods", "-------", *methods, ""])
    summary = " ".join(text.partition("\n\n")[0].split())
    plot = f".. plot::\n   :include-source:\n   :alt: {name.rpartition('.')[2]}: {summary}\n"
    text = re.sub(r"^\.\. plot::\n(?! +:)", lambda _: plot, text, flags=re.MULTILINE)
    lines[:] = text.split("\n")


def attribute_entry(documented, param, description, is_attribute):
    """Term and description of a parameter or an attribute, as numpydoc asks for; an attribute has an anchor."""
    names = re.findall(r"\w+", param)
    anchors = ",\N{NO-BREAK SPACE}".join(f":anchored-attribute:`{name}`" for name in names)
    return anchors if is_attribute else f"**{documented._escape_args_and_kwargs(param.strip())}**", description


def anchored_attribute(role, rawtext, name, lineno, inliner, options=None, content=None):
    """Role of the name of an attribute where its class documents it."""
    env = inliner.document.settings.env
    full_name = f"{env.ref_context.get('py:module')}.{env.ref_context.get('py:class')}.{name}"
    env.get_domain("py").note_object(full_name, "attribute", full_name, location=(env.docname, lineno))
    return [nodes.strong(rawtext, name, ids=[full_name])], []


def add_aliases(app, env):
    """Let references to a name that is documented under another lead there."""
    objects = env.get_domain("py").objects
    for alias, name in tables.aliases().items():
        if name in objects:
            objects.setdefault(alias, objects[name]._replace(aliased=True))


def resolve_public_name(app, env, node, contents):
    """Link a class in backquotes from another module, its members, or a function that the package itself offers."""
    name, dot, member = node["reftarget"].partition(".")
    full_name = tables.public_names().get(name, "")
    if node["refdomain"] == "py" and (name[:1].isupper() or full_name == f"sk_analytic.{name}"):
        domain, full_name = env.get_domain("py"), f"{full_name}{dot}{member}"
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full_name, node, contents)
    return None


def repair_backlinks(app, pagename, templatename, context, doctree):
    """Anchors from source code to the reference; viewcode takes them all for members of one module."""
    if not pagename.startswith("_modules/"):
        return

    def repaired(link):
        page, name = link[1], link[1].rpartition(".")[2]
        return f"{page}.html#{page}{link[2].rpartition(f'.{name}')[2]}"

    context["body"] = re.sub(r"(?<=generated/)(sk_analytic[\w.]*)\.html#([\w.]+)", repaired, context["body"])


def setup(app):
    app.config.autosummary_context = {
        "groups": {module: tables.pages_of(module) for module in tables.public_modules()},
        "documented": members.members(),
    }
    app.add_config_value("reference_guides", members.guides(), "env", dict)
    app.add_directive("autosummary", Summaries, override=True)
    app.add_role("anchored-attribute", anchored_attribute)
    SphinxDocString._process_param = attribute_entry
    app.connect("builder-inited", lambda app: tables.write(), priority=100)
    app.connect("autodoc-process-signature", without_types)
    app.connect("autodoc-process-docstring", number_citations, priority=100)
    app.connect("autodoc-process-docstring", complete, priority=101)
    app.connect("env-updated", add_aliases)
    app.connect("missing-reference", resolve_public_name)
    app.connect("html-page-context", repair_backlinks)
    return {"parallel_read_safe": True}
