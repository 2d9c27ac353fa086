"""The built site as a reader meets it: links that lead somewhere, and pages in a browser.

`scripts/docs` builds it. The browser is Debian's chromium with its driver, headless, at 1300 pixels. Screenshots go to
the folder that SK_ANALYTIC_SCREENSHOTS names, else to docs/_build/screenshots. With SK_ANALYTIC_REQUIRE_BROWSER=1 a
missing site or browser fails.
"""

import html.parser
import os
import re
import shutil
import threading
from functools import cached_property, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

import sk_analytic
from sk_analytic.display import DOCUMENTATION

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "_build" / "html"
SCREENSHOTS = Path(os.environ.get("SK_ANALYTIC_SCREENSHOTS", SITE.parent / "screenshots"))
REQUIRED = os.environ.get("SK_ANALYTIC_REQUIRE_BROWSER") == "1"
WIDTH, PHONE = 1300, 390
TOP_BAR = ["Install", "User guide", "API", "Gallery", "Benchmarks"]
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

pytestmark = pytest.mark.skipif(
    not REQUIRED and not (SITE / "index.html").is_file(), reason="the site is not built: scripts/docs"
)


class Page(html.parser.HTMLParser):
    """What is asked of a page's HTML: its anchors, its links and images, its text."""

    def __init__(self, file):
        super().__init__()
        self.anchors, self.links, self.sources, self.words, self.hidden = set(), [], [], [], 0
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag in {"a", "link"} and attrs.get("href"):
            self.links.append(attrs["href"])
        if attrs.get("src"):
            self.sources.append(attrs["src"])
        self.hidden += tag in {"script", "style"}

    def handle_endtag(self, tag):
        self.hidden -= tag in {"script", "style"}

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)

    @cached_property
    def text(self):
        """The text of the page with single spaces."""
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def pages():
    """Every page of the site, by its path."""
    files = (file for file in SITE.rglob("*.html") if not file.is_relative_to(SITE / "_static"))
    return {file.relative_to(SITE).as_posix(): Page(file) for file in files}


def test_internal_links_lead_somewhere(pages):
    """Every link, script, style and image within the site is a file of it, and every anchor is on its page."""
    broken = set()
    for path, page in pages.items():
        for link in [*page.links, *page.sources]:
            if urlsplit(link).scheme:
                continue
            target, anchor = urldefrag(urljoin(f"/{path}", link))
            target = unquote(urlsplit(target).path).lstrip("/")
            target = f"{target}index.html" if not target or target.endswith("/") else target
            if not (SITE / target).is_file():
                broken.add(f"{path}: {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                broken.add(f"{path}: {link} (no such anchor)")
    assert broken == set()


def test_nothing_is_fetched_from_elsewhere(pages):
    """Scripts, styles, fonts and images come with the site."""
    sources = {(path, source) for path, page in pages.items() for source in page.sources}
    assert {(path, source) for path, source in sources if urlsplit(source).scheme not in {"", "data"}} == set()


ESTIMATORS = ["AnalyticRegressor", "AnalyticClassifier", "AnalyticDensity", "AnalyticTransformer"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_links_of_the_diagram_lead_to_the_page(pages, name):
    """The diagram of a notebook links each estimator to its page, and each parameter to its description there."""
    links = set(re.findall(rf'href="({re.escape(DOCUMENTATION)}[^"]*)"', getattr(sk_analytic, name)()._repr_html_()))
    assert links
    for link in links:
        path, fragment = urldefrag(link.removeprefix(f"{DOCUMENTATION}/"))
        assert path in pages
        if fragment:
            start, _, suffix = fragment.removeprefix(":~:text=").partition(",-")
            wanted = unquote(start), unquote(suffix)
            found = re.search(rf"\b{re.escape(wanted[0])}\s*:?\s*{re.escape(wanted[1])}", pages[path].text)
            assert found, f"{path} lacks {wanted}"


def test_no_reference_is_read_as_a_list(pages):
    """`.. [1] D. Kingma ...` in one line would be item D of an enumeration."""
    entries = {path: re.findall(r'(?s)role="doc-(?:biblioentry|footnote)".*?</', source(path)) for path in pages}
    assert any(entries.values())
    assert [path for path in pages if 'class="upperalpha' in source(path)] == []


def source(path):
    """The HTML of a page."""
    return (SITE / path).read_text(encoding="utf-8")


def test_pages_of_classes_are_complete(pages):
    """With a table of methods, a link to the guide, examples of the gallery, and the code of a plot."""
    page = source("generated/sk_analytic.AnalyticRegressor.html")
    assert '<p class="rubric">Methods</p>' in page
    assert re.search(r"Read more in the <a [^>]*guide/index", page)
    assert "Examples using" in page
    assert page.count('id="sk_analytic.AnalyticRegressor.best_loss_"') == 1
    for name in ("LossCurveDisplay", "PairsDisplay"):
        display = source(f"generated/sk_analytic.plotting.{name}.html")
        assert re.search(rf'alt="{name}: [^"]+"', display)
        assert "highlight-python" in display or "highlight-default" in display


@pytest.mark.parametrize("name", ["optimizers.AdamW", "AnalyticRegressor", "Finding", "infer"])
def test_signatures_have_no_types(name):
    """Types are with the descriptions of the parameters; the class of a result has no constructor."""
    signature = source(f"generated/sk_analytic.{name}.html").partition('<dt class="sig')[2].partition("</dt>")[0]
    assert "sig-return" not in signature
    assert '<span class="p"><span class="pre">:</span></span>' not in signature
    assert ("sig-paren" in signature) == (name != "Finding")


class Quiet(SimpleHTTPRequestHandler):
    """A handler that reports no requests."""

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def address():
    """The site on a port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    """A headless chromium of 1300 pixels."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    missing = [name for name, found in {"chromium": chromium, "chromium-driver": chromedriver}.items() if not found]
    try:
        from selenium import webdriver
    except ImportError:
        missing.append("selenium")
    if missing:
        assert not REQUIRED, f"missing: {missing}"
        pytest.skip(f"{' and '.join(missing)} not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


def show(browser, url, *, width=WIDTH, scheme="light"):
    """Open a page in a window of a width."""
    size = {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    browser.get(url)


TOO_WIDE = """
return [...document.querySelectorAll("div.highlight pre")]
    .filter(block => block.scrollWidth > block.clientWidth + 1)
    .map(block => block.textContent.split("\\n").sort((a, b) => b.length - a.length)[0]);
"""
WITHOUT_PICTURE = """
return [...document.images].filter(image => !(image.complete && image.naturalWidth)).map(image => image.src);
"""
OVERFLOW = "return document.documentElement.scrollWidth - window.innerWidth"
SIDEBAR = "return [...document.querySelectorAll('.bd-sidebar-primary nav.bd-docs-nav a')].map(a => a.textContent)"
NAVIGATION = """
return [...document.querySelectorAll(".bd-header .navbar-header-items .navbar-nav > .nav-item:not(.dropdown) > a")]
    .map(a => [a.textContent.trim(), a.href]);
"""


def kept(browser, name):
    """Keep a screenshot."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


def complaints(browser):
    """What a reader would see as broken on the page that is shown."""
    found = [f"a picture is missing: {source}" for source in browser.execute_script(WITHOUT_PICTURE)]
    found += [f"code is wider than its column: {line}" for line in browser.execute_script(TOO_WIDE)]
    said = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    found += [f"the console says: {entry['message']}" for entry in said]
    return found


def gallery():
    """The pages of the gallery, but for its index and what belongs to the building of it."""
    folder = SITE / "auto_examples"
    return sorted(file.relative_to(SITE).as_posix() for file in folder.glob("plot_*.html"))


CHOSEN = {
    "landing": "index.html",
    "install": "install.html",
    "guide": "guide/index.html",
    "guide-page": "guide/inference.html",
    "api": "api.html",
    "api-module": "generated/sk_analytic.optimizers.html",
    "api-class": "generated/sk_analytic.AnalyticRegressor.html",
    "gallery": "auto_examples/index.html",
    "benchmarks": "benchmarks.html",
    "coming-from": "coming_from/torch.html",
    **dict(zip(["gallery-page"], gallery(), strict=False)),
}
WITH_SIDEBAR = {"guide", "guide-page", "api", "api-module", "api-class", "gallery-page", "coming-from"}


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_in_the_browser(browser, address, name, scheme):
    """Complete, without errors, with a filled sidebar where it belongs to a section."""
    show(browser, address + CHOSEN[name], scheme=scheme)
    kept(browser, f"{name}-{scheme}")
    assert complaints(browser) == []
    assert browser.execute_script(OVERFLOW) <= 0
    assert [text for text, _ in browser.execute_script(NAVIGATION)] == TOP_BAR
    assert browser.execute_script(SIDEBAR) or name not in WITH_SIDEBAR


@pytest.mark.parametrize("name", CHOSEN)
def test_a_page_on_a_phone(browser, address, name):
    """Nothing but code and tables, which scroll by themselves, is wider than the screen."""
    show(browser, address + CHOSEN[name], width=PHONE)
    kept(browser, f"{name}-phone")
    assert browser.execute_script(OVERFLOW) <= 0


def test_navigation_leads_from_page_to_page(browser, address):
    """From the landing page to each entry of the top bar, and from there to the first page of its sidebar."""
    show(browser, address)
    for text, url in browser.execute_script(NAVIGATION):
        show(browser, url)
        assert browser.title, text
        entries = browser.find_elements("css selector", ".bd-sidebar-primary nav.bd-docs-nav a")
        if entries:
            heading = browser.find_element("tag name", "h1").text
            entries[0].click()
            assert browser.find_element("tag name", "h1").text != heading
            assert complaints(browser) == []


def test_no_code_is_wider_than_its_column(browser, address, pages):
    """On any page."""
    wide = {}
    for path in sorted(pages):
        show(browser, address + path)
        if lines := browser.execute_script(TOO_WIDE):
            wide[path] = lines
    assert wide == {}


def test_every_sidebar_is_filled(pages):
    """With links to the pages of its section; every page of the guide and of the reference has one."""
    links = {path: links_of_sidebar(SITE / path) for path in pages}
    empty = [path for path, number in links.items() if number == 0 and path != "auto_examples/index.html"]
    assert empty == []
    assert [path for path in pages if path.startswith(("guide/", "generated/")) and links[path] is None] == []


def links_of_sidebar(file):
    """How many links the sidebar of a page has; None if there is no sidebar."""
    _, found, navigation = file.read_text(encoding="utf-8").partition('<nav class="bd-docs-nav')
    return navigation.partition("</nav>")[0].count("<a ") if found else None


def test_copied_code_has_no_prompts(browser, address):
    """The button copies what a reader would paste."""
    show(browser, address)
    browser.execute_script(
        "document.execCommand = () => { window.copied = document.activeElement.value; return true; };"
        "document.querySelector('div.highlight button.copybtn').click()"
    )
    copied = browser.execute_script("return window.copied")
    assert copied.startswith("import numpy as np\n")
    assert ">>>" not in copied
    compile(copied, "copied", "exec")
