"""The search, in a browser, through a server on this machine: a page from a file may not read others."""

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(html) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(site) else route.abort())
    yield page
    context.close()


def found(page: Page, site: str, query: str) -> list[tuple[str, str, str]]:
    """Address, title and summary of every result, the first first."""
    page.goto(f"{site}/search.html?q={query}")
    page.wait_for_function("document.querySelector('.search-summary').innerText.includes('finished')")
    page.wait_for_function("[...document.querySelectorAll('ul.search > li')].every(item => item.children.length > 1)")
    items = page.locator("ul.search > li").evaluate_all(
        "items => items.map(item => [item.querySelector('a').getAttribute('href'), item.querySelector('a').innerText,"
        " item.querySelector('p.context')?.innerText ?? ''])"
    )
    return [tuple(item) for item in items]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("Baird", "Baird’s counterexample"),
        ("baird counterexample", "Baird’s counterexample"),
        ("PreQN", "PreQN"),
        ("contraction", "Contraction maps"),
        ("Bellman", "Bellman operators"),
        ("bibliography", "Bibliography"),
    ],
)
def test_the_page_that_is_called_so_comes_first(page, site, query, title):
    results = found(page, site, query)
    assert re.sub(r"^\d+\. ", "", results[0][1]).startswith(title), [result[1] for result in results[:3]]


@pytest.mark.parametrize("query", ["Baird", "emphatic", "kernel", "Theorem 2"])
def test_a_summary_is_words_of_the_text(page, site, query):
    """It holds what was asked for, and neither TeX nor code nor what stands on every page."""
    summaries = [summary for _, _, summary in found(page, site, query) if summary]
    assert summaries
    assert not [
        summary for summary in summaries if any(sign in summary for sign in ("\\", ".pdf", "Print to PDF", "import ", "Contents", "#"))
    ]
    assert all(40 < len(summary) < 280 for summary in summaries)
    said = [summary for summary in summaries if query.split()[0].lower() in summary.lower()]
    assert len(said) >= 0.8 * len(summaries)  # not all: a page may have the word in its title alone, or in its code


def test_a_summary_begins_and_ends_with_whole_words(page, site):
    summaries = [summary for _, _, summary in found(page, site, "Baird")]
    assert len(summaries) > 5
    for summary in summaries:
        assert not summary.startswith("...")
        assert not summary.endswith("...")
