"""How Sphinx builds the documentation. Neither a build nor a reader's browser fetches anything from elsewhere."""

import importlib.util
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import sk_analytic
from sk_analytic.display import DOCUMENTATION

project = "sk_analytic"
author = "sk_analytic developers"
copyright = "2026, sk_analytic developers"
version = release = sk_analytic.__version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))  # gallery, mathml, neighbors and reference are ours
import gallery  # noqa: E402

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",  # for the files of the repository that are Markdown
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "gallery",
    "mathml",
    "neighbors",
    "reference",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("sidebar.js", {"defer": "defer"}), ("fades.js", {"defer": "defer"})]
default_role = "py:obj"
nitpicky = True
# Types in docstrings are words for readers, "array-like of shape (n,)", and other libraries have sites of their own.
nitpick_ignore_regex = [(r"py:\w+", r"(?!sk_analytic\.).*")]

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_mock_imports = [name for name in ("jax", "optax", "torch") if importlib.util.find_spec(name) is None]
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # the extension lists those of a table, see docs/_extensions/members.py
numpydoc_class_members_toctree = False

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_pre_code = """
import numpy as np
import matplotlib.pyplot as plt
from sk_analytic.optimizers import *
"""

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = [url for name, url in PROJECT["urls"].items() if name.lower() in {"repository", "source"}]

html_theme = "pydata_sphinx_theme"
html_math_renderer = "mathml"
html_baseurl = f"{DOCUMENTATION}/"
html_title = f"sk_analytic {release}"
html_show_sourcelink = False
html_favicon = "_static/logo.svg"
html_context = {"default_mode": "auto", "site_path": urlsplit(html_baseurl).path}
smartquotes_action = "De"  # the links of estimator diagrams search for text with quotes as they are typed
html_theme_options = {
    "logo": {
        "text": "sk_analytic",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
        "alt_text": "",
    },
    "navbar_align": "left",
    "navbar_start": ["navbar-logo", "version"],
    "navbar_end": ["theme-switcher", *(["navbar-icon-links"] if REPOSITORY else [])],
    "icon_links": [{"name": "Repository", "url": url, "icon": "fa-solid fa-code-branch"} for url in REPOSITORY],
    "header_links_before_dropdown": 5,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "404": []},
    "pygments_dark_style": "github-dark",
}
# Pages that stand alone have no section to navigate: those of the top bar, and source code, which needs the width.
ALONE = ["index", "install", "benchmarks", "faq", "glossary", "changelog", "contributing", "404"]
html_sidebars = {
    "[!_]**": ["sidebar-nav-bs"],
    **dict.fromkeys([*ALONE, "search", "genindex", "py-modindex", "_modules/**"], []),
}

# A copied example is code alone, without prompts and output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "within_subsection_order": gallery.ORDER,
    "thumbnail_size": (400, 280),
    "capture_repr": (),  # an example prints what it shows
    "backreferences_dir": "generated/examples",
    "doc_module": ("sk_analytic",),
    "reference_url": {"sk_analytic": None},
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "plot_gallery": "True",
}
