"""Sphinx extension: formulas as MathML, which browsers draw by themselves, without a script or a network."""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

# Annotations would repeat each formula as LaTeX in the excerpts of the search.
CONVERTER = LatexToMathML(annotation=False, fancy_error=False)
logger = logging.getLogger(__name__)


def mathml(node, *, display):
    """Return the MathML of a formula; what cannot be converted is a warning that says where, and stays LaTeX."""
    text = node.astext()
    if display:
        rows = [row.strip() for row in text.split("\n\n") if row.strip()]
        text = r" \\ ".join(rows)
        if r"\\" in text or "&" in text:
            text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    try:
        return CONVERTER.convert_with_local_state(text, displaystyle=display)
    except LatexError as error:
        logger.warning("no MathML for %r: %s", text, error, location=node)
        return f"<code>{text}</code>"


def visit_inline(translator, node):
    """Write a formula in a line."""
    translator.body.append(mathml(node, display=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """Write a formula that stands by itself."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(mathml(node, display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True}
