"""Sphinx extension: links to the previous and the next page, in the sections that are read in an order."""

SECTIONS = {"guide/index", "coming_from/index", "auto_examples/index"}


def section_of(app, pagename):
    """The section that a page belongs to, if it is one of those above."""
    while pagename and pagename not in SECTIONS:
        pagename = app.builder.relations.get(pagename, (None,))[0]
    return pagename


def link_neighbors(app, pagename, templatename, context, doctree):
    """Link a page of these sections to its neighbors there, and no other page to any."""
    section = section_of(app, pagename)
    _, *neighbors = app.builder.relations.get(pagename, (None, None, None))
    for key, name in zip(("prev", "next"), neighbors, strict=True):
        if not section or not name or section_of(app, name) != section:
            context[key] = None
    context["theme_show_prev_next"] = bool(context.get("prev") or context.get("next"))


def setup(app):
    app.connect("html-page-context", link_neighbors)
    return {"parallel_read_safe": True}
