"""Sphinx extension for the gallery: its sections, the order of its examples, and a sentence about each."""

import re
from html import escape

from sphinx_gallery.sorting import ExplicitOrder

SECTIONS = {
    "Regression and classification": {
        "plot_curve_uncertainty": "A power law with standard errors, profile intervals and a confidence band.",
        "plot_negative_binomial": "Counts that vary more than a Poisson regression allows.",
        "plot_ordinal_classifier": "One weight vector and a cutpoint between each pair of neighboring classes.",
    },
    "Likelihoods and physical models": {
        "plot_survival": "Weibull and Cox likelihoods for times that are partly censored.",
        "plot_custom_adjoint": "One more solve returns the gradient with respect to all parameters, for any loss.",
        "plot_gaussian_process": "A derivative with respect to θ that is mistaken for one with respect to log θ.",
    },
    "Densities and generative models": {
        "plot_mixture_density_network": "Several likely values for the same x, with their weights and scales.",
        "plot_nade_digits": "Three mistakes in a published gradient, found one by one; then new digits are drawn.",
        "plot_rbm_features": "A gradient estimated from samples trains a model whose loss cannot be computed.",
    },
    "Optimizers and large data": {
        "plot_factorization_machine": "Ratings from a vector for each user and item, with sparse gradients.",
        "plot_compare_optimizers": "Three ways to choose an optimizer and its learning rate, for one network.",
        "plot_larger_than_memory": "One chunk in memory at a time, and the same parameters as from a single fit.",
    },
}
SENTENCES = {name: sentence for section in SECTIONS.values() for name, sentence in section.items()}
ORDER = ExplicitOrder([f"{name}.py" for name in SENTENCES])
FIRST = {next(iter(section)): heading for heading, section in SECTIONS.items()}
CARD = re.compile(
    r'<div class="sphx-glr-thumbcontainer"[^>]*>(.*?sphx_glr_(\w+)_thumb\.\w+.*?'
    r'<div class="sphx-glr-thumbnail-title">.*?</div>)',
    flags=re.DOTALL,
)


def describe_cards(app, pagename, templatename, context, doctree):
    """Show the sentence of an example below its title, instead of a tooltip, and the headings of the sections."""
    if "sphx-glr-thumbcontainer" not in context.get("body", ""):
        return

    def described(card):
        inside, name = card.groups()
        heading = ""
        if pagename == "auto_examples/index" and name in FIRST:
            heading = f'<h2 class="gallery-section">{escape(FIRST[name])}</h2>'
        sentence = f'<div class="gallery-sentence">{escape(SENTENCES[name])}</div>' if name in SENTENCES else ""
        return f'{heading}<div class="sphx-glr-thumbcontainer">{inside}{sentence}'

    context["body"] = CARD.sub(described, context["body"])


def setup(app):
    app.connect("html-page-context", describe_cards)
    return {"parallel_read_safe": True}
