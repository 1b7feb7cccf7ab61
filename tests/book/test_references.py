"""The bibliography: every work can be reached from it, and its entries are what is shown."""

import re

import pytest
from bs4 import BeautifulSoup
from pybtex.database import parse_file

ADDRESS = {"doi": "https://doi.org/{}", "eprint": "https://arxiv.org/abs/{}", "url": "{}"}
UNLINKED = {"defarias2000existence", "lee2019target", "macqueen1966modified", "maei2010toward"}
"""Works for which no address was found that could be checked."""


@pytest.fixture(scope="module")
def entries(root):
    return parse_file(root / "references.bib").entries


def test_every_work_has_an_address(entries):
    assert {key for key, entry in entries.items() if not set(ADDRESS) & set(entry.fields)} == UNLINKED


def test_an_address_is_of_its_kind(entries):
    kinds = {"doi": r"10\.\d{4,}/", "eprint": r"\d{4}\.\d{4,5}$", "url": r"https?://\w"}
    given = [(key, kind, entry.fields[kind]) for key, entry in entries.items() for kind in kinds if kind in entry.fields]
    assert not [one for one in given if not re.match(kinds[one[1]], one[2])]
    values = [value for _, _, value in given]
    assert len(set(values)) == len(values)
    assert not [key for key, entry in entries.items() if "arXiv" in entry.fields.get("journal", "") + entry.fields.get("note", "")]


def test_the_page_links_all_that_it_lists(entries, html):
    """Every entry of the file is cited somewhere, so the page has them all."""
    page = BeautifulSoup((html / "appendices" / "bibliography.html").read_text(encoding="utf-8"), "html.parser")
    assert len(page.select("article div.citation")) == len(entries)
    linked = sorted(link["href"] for link in page.select("article div.citation a[href^=http]"))
    assert linked == sorted(
        ADDRESS[kind].format(entry.fields[kind]) for entry in entries.values() for kind in ADDRESS if kind in entry.fields
    )
