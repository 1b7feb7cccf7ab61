"""What CONTRIBUTING.md asks of a chapter and what a reviewer should not have to look for."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1[`~]*[ \t]*$", re.DOTALL | re.MULTILINE)
DIRECTIVE = re.compile(
    r"^[ \t]*(?P<fence>:{3,}|`{3,}|~{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<argument>.*)\n(?P<options>(?:[ \t]*:[\w-]+:.*\n?)*)", re.MULTILINE
)
STATEMENTS = {"prf:theorem", "prf:lemma", "prf:proposition", "prf:corollary"}
SOLUTION = re.compile(r"^(:{3,})\{solution\}.*?^\1[ \t]*$|^:::\{solution-start\}.*?^:::\{solution-end\}", re.MULTILINE | re.DOTALL)
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def directives(cell) -> list[tuple[str, str, str, str]]:
    """The directives of a cell: fence, name, argument and the label among the options ("" if there is none)."""
    found = []
    for match in DIRECTIVE.finditer(cell.source + "\n"):
        label = re.search(r":label:\s*(\S+)", match["options"])
        found.append((match["fence"], match["name"], match["argument"].strip(), label[1] if label else ""))
    return found


def test_chapters_are_those_of_the_contents(chapters, toc):
    assert [chapter.name.removesuffix(".ipynb") for chapter in chapters] == [page for page in toc if page.startswith("chapters/")]


# --- notebooks -------------------------------------------------------------------------------------------------------


def test_notebook_is_stripped(chapter):
    assert not [cell.id for cell in chapter.code if cell.outputs or cell.execution_count is not None]


def test_cells_have_telling_names(chapter):
    """A name such as `baird-diverges` survives edits, shows in a diff what moved and can be linked; `3f2a91bc` does none of it."""
    notebook = chapter.notebook
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert not [name for name, count in Counter(ids).items() if count > 1]
    assert not [name for name in ids if not re.fullmatch(r"[a-z][a-z0-9-]+", name) or re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name)]


def test_one_kernel(chapters):
    specifications = [chapter.notebook.metadata.get("kernelspec") for chapter in chapters]
    assert {specification["name"] for specification in specifications} == {"python3"}
    assert all(specification == specifications[0] for specification in specifications)


def test_open_code_is_short(source):
    """A reader takes in fifteen lines; what is longer goes to the package, or under a fold if it only draws."""
    long = [
        cell.source.split("\n")[0]
        for cell in source.code
        if len(cell.source.strip().split("\n")) > 15 and not FOLDED & set(cell.metadata.get("tags", []))
    ]
    assert not long, f"more than 15 lines and not folded, the cells that begin with {long}"


def test_no_cell_imports_what_only_a_build_needs(source):
    """What stands there may change without a notebook being run again."""
    assert not any("deadly_triad_book.pages" in cell.source for cell in source.code)


def test_what_is_folded_shows_something(source):
    """A cell that only prepares has the tag remove-input: a bar that leads to nothing is in the way."""
    for cell in source.executed.cells:
        if "hide-input" in cell.metadata.get("tags", []):
            assert any("papermill" not in str(list(output.get("data", {}))) for output in cell.outputs), cell.source


def test_figures_have_words(source):
    faults = []
    for cell in source.executed.cells:
        if not any("image/" in mime for output in cell.get("outputs", []) for mime in output.get("data", {})):
            continue
        metadata = cell.metadata.get("mystnb", {})
        figure, alt = metadata.get("figure", {}), metadata.get("image", {}).get("alt", "")
        if not re.fullmatch(r"[A-Z].{38,}\.", alt, re.DOTALL):
            faults.append(f"mystnb.image.alt must be a sentence of at least 40 characters, is {alt!r}")
        faults += [
            f"mystnb.figure.{key} is missing in a cell that draws: {cell.source[:60]!r}"
            for key in ("name", "caption")
            if not figure.get(key)
        ]
    assert not faults, "\n".join([source.name, *faults])


def test_names_survive_a_renumbering(pages):
    """Figures and glued numbers are named by a word of their page, each page by its own, so that a new chapter renames none of them."""
    owners: dict[str, set[str]] = {}
    for page in pages:
        names = re.findall(r"glue\(\s*\"([^\"]+)\"", "\n".join(cell.source for cell in page.code))
        names += [cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "").removeprefix("fig-") for cell in page.code]
        for word in {name.split("-")[0] for name in names if name}:
            assert word in re.sub(r"\d", "", page.path.stem), (
                f"{page.name}: the names {word}-… do not begin with a word of the page's own name"
            )
            owners.setdefault(word, set()).add(page.name)
    assert not {word: found for word, found in owners.items() if len(found) > 1}


def test_figure_names_are_unique(pages):
    names = Counter(cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for page in pages for cell in page.code)
    assert not [name for name, count in names.items() if name and count > 1]


def test_what_is_talked_about_is_drawn(chapter):
    """A figure for every five hundred words, formulas, code and solutions not counted; a figure that moves is one, too."""
    text = "\n\n".join(cell.source for cell in chapter.prose)
    words = len(re.findall(r"[^\W\d_]{2,}", prose_only(SOLUTION.sub(" ", text))))
    figures = text.count("{explorable}") + sum("figure" in cell.metadata.get("mystnb", {}) for cell in chapter.code)
    assert figures, "no figure"
    assert words / figures <= 500, f"{words} words and {figures} figures"


# --- prose -----------------------------------------------------------------------------------------------------------


def test_directives_use_colon_fences(source):
    """GitHub and Colab show a backtick fence as code and the mathematics in it as source; a colon fence they show as text."""
    wrong = [
        f"{name} {argument}"
        for cell in source.prose
        for fence, name, argument, _ in directives(cell)
        if fence[0] != ":" and re.match(r"prf:|exercise|solution", name)
    ]
    assert not wrong


def prose_only(markdown: str) -> str:
    """What is left of Markdown without mathematics, code, roles, links, directive heads and options, comments and labels."""
    markdown = FENCE.sub(" ", markdown)
    for pattern in (r"<!--.*?-->", r"\$\$.*?\$\$(\s*\([\w:.-]+\))?", r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}"):
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL | re.MULTILINE)
    markdown = re.sub(r"^[ \t]*:{3,}\{math\}.*?^[ \t]*:{3,}[ \t]*$", " ", markdown, flags=re.DOTALL | re.MULTILINE)
    markdown = re.sub(r"^[ \t]*(:[\w-]+:.*|%.*|:{3,}.*)$", " ", markdown, flags=re.MULTILINE)
    return re.sub(
        r"(?:\{[\w:-]+\})?(`+)(?!`).*?(?<!`)\1(?!`)|(?<!\\)\$[^$]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>\s][^>]*>", " ", markdown, flags=re.DOTALL
    )


NUMBER = r"\d+(?:\.\d+)*"
PLACE = re.compile(
    r"(?:\b(?:(?:secs?|ch|chs|figs?|thms?|lem|prop|cor|defs?|eqs?|alg|tab|ex)\.?"
    r"|(?:section|chapter|figure|theorem|lemma|proposition|corollary|definition|equation|algorithm|table|exercise|example)s?)|§+)"
    rf"\s*\(?{NUMBER}\)?(?:(?:,|–|-|\s+and|\s+to)\s*\(?{NUMBER}\)?)*",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("markdown", "typed"),
    [
        ("The error is 0.5 after $0.25$ and `0.125`.", ["0.5"]),
        ("See sec. 9.4 and 11.1, § 9.4, figs. 11.1–11.2, thm 6.4 and eq. (11.2).", []),
        ("So {glue:text}`x:.2f` and [0.3](a.md), $$ 0.9 $$ (eq-a) then 2.5.", ["2.5"]),
        (":::{prf:theorem} A 1.5 title\n:label: thm-1.5\n\nwith 3.5 in it\n:::", ["3.5"]),
        ("```{code-block}\n1.5\n```\n\nIn 2018 there were 7.", []),
        ("Chapter. 0.5 begins a sentence.", ["0.5"]),
    ],
)
def test_the_finder_of_typed_numbers(markdown, typed):
    assert typed_numbers(markdown) == typed


def typed_numbers(markdown: str) -> list[str]:
    return re.findall(r"\d+\.\d+", PLACE.sub(" ", prose_only(markdown)))


def test_no_number_is_typed(chapter):
    """A number in prose comes out of a cell, by glue: then it cannot differ from what the code computes."""
    typed = [f"{cell.id}: {number}" for cell in chapter.prose for number in typed_numbers(cell.source)]
    assert not typed


def test_exercises_and_solutions_are_pairs(pages):
    exercises, solutions = [], []
    for page in pages:
        for cell in page.prose:
            for _, name, argument, label in directives(cell):
                if name in {"exercise", "exercise-start"}:
                    exercises.append(label or f"an exercise without a label in {page.name}")
                elif name in {"solution", "solution-start"}:
                    solutions.append(argument)
    assert sorted(exercises) == sorted(solutions)


def test_exercises_begin_with_warm_ups(chapter):
    """What is done by hand in a few minutes comes first, what has a star or is open comes last."""
    titles = [argument for cell in chapter.prose for _, name, argument, _ in directives(cell) if name == "exercise"]
    ranks = [0 if title.startswith("Warm-up: ") else 2 if title.startswith("★") else 1 for title in titles]
    assert ranks == sorted(ranks), f"not in the order of warm-ups, others, starred ones: {titles}"
    assert ranks.count(0) >= 2, titles


def test_links_lead_somewhere(source, labels, pages, root):
    """Links and references inside the book, by the sources alone: also where Sphinx would be silent."""
    references = (root / "references.bib").read_text(encoding="utf-8")
    faults = []
    for cell in source.prose:
        markdown = FENCE.sub(" ", cell.source)
        for role, text in re.findall(r"\{(doc|ref|numref|eq|prf:ref|cite(?::\w+)?)\}`([^`]+)`", markdown):
            for target in re.sub(r"^.*<(.*)>$", r"\1", text, flags=re.DOTALL).split("," if role.startswith("cite") else "\n"):
                if role == "doc":
                    here = (root if target.startswith("/") else source.path.parent) / target.strip("/")
                    found = any(
                        here.with_name(here.name + suffix).resolve() in {page.path for page in pages} for suffix in ("", ".ipynb", ".md")
                    )
                elif role.startswith("cite"):
                    found = re.search(rf"^\s*@\w+\{{\s*{re.escape(target.strip())}\s*,", references, re.MULTILINE)
                else:
                    found = target.strip() in {*labels, "genindex"}  # the one page that Sphinx writes by itself
                if not found:
                    faults.append(f"{{{role}}}`{text}`")
        faults += [
            f"[…]({link})" for link in markdown_links(markdown) if not (leads_to_a_file(link, source.path) or link.strip("#") in labels)
        ]
    assert not faults, "\n".join([source.name, *faults])


def markdown_links(markdown: str) -> list[str]:
    """Targets of the links and images that stay inside the project."""
    links = re.findall(r"\]\(\s*<?([^)>\s]+)", markdown) + re.findall(r"^\[[^\]^]+\]:\s*(\S+)", markdown, re.MULTILINE)
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def leads_to_a_file(link: str, page: Path) -> bool:
    path = link.split("#")[0]
    return bool(path) and (page.parent / path).exists()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_front_matter(name, root):
    page = root / name
    if not page.exists():
        pytest.skip(f"{name} is not written yet")
    text = page.read_text(encoding="utf-8")
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert not [link for link in markdown_links(FENCE.sub(" ", text)) if not leads_to_a_file(link, page) and link not in anchors]


def test_the_front_page_names_the_chapters_in_their_order(chapters, root):
    named = re.findall(r"^\d+\. \*\*(.+?)\*\*", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    titles = [chapter.prose[0].source.splitlines()[0].removeprefix("# ") for chapter in chapters]
    assert len(named) == len(titles)
    for name, title in zip(named, titles, strict=True):
        assert name.lower().startswith(title.lower().split(":")[0].rstrip("?"))


# --- statements and their tests ----------------------------------------------------------------------------------------


def test_statements_and_tests_name_each_other(chapters, root):
    """A theorem without a test is a claim; a mark without a theorem is a test of what the book no longer says."""
    stated = [
        (label, chapter.name)
        for chapter in chapters
        for cell in chapter.prose
        for _, name, _, label in directives(cell)
        if name in STATEMENTS
    ]
    unlabelled = [chapter for label, chapter in stated if not label]
    labels, tested = {label for label, _ in stated}, marked_labels(root / "tests")
    assert not unlabelled, f"statements without a label in {unlabelled}"
    assert not labels - tested, f"no test carries @pytest.mark.states(…) for {sorted(labels - tested)}"
    assert not tested - labels, f"tests are marked with labels that no chapter has: {sorted(tested - labels)}"


def marked_labels(tests: Path) -> set[str]:
    """The labels in `pytest.mark.states("label")`, where it decorates a test or one of its parameter sets."""
    found = set()
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.lower().startswith("test"):
                calls = [call for decorator in node.decorator_list for call in ast.walk(decorator) if isinstance(call, ast.Call)]
                marks = [call for call in calls if ast.unparse(call.func) == "pytest.mark.states"]
                found |= {argument.value for call in marks for argument in call.args}
    return found


def stars_at(text: str, position: int, of_chapter: bool) -> int:
    """Stars that a reader of the first course has passed before this place: of the chapter and of the sections that it stands in."""
    open_sections: dict[int, str] = {}
    for match in re.finditer(r"^(#+) (.*)", text[:position], re.MULTILINE):
        level = len(match[1])
        open_sections = {outer: title for outer, title in open_sections.items() if outer < level} | {level: match[2]}
    return of_chapter + any(title.startswith("★") for title in open_sections.values())


def test_what_has_no_star_rests_on_nothing_with_one(chapters, root):
    """A proof or an exercise may cite what its reader has read: no statement that stands under more stars than itself."""
    cards = yaml.safe_load((root / "lib/deadly_triad_book/pages/cards.yml").read_text(encoding="utf-8"))
    stated, citing = {}, []
    for chapter in chapters:
        text = "\n\n".join(cell.source for cell in chapter.prose)
        starred = not cards[re.sub(r"^\d+_", "", chapter.path.stem)]["course"]
        for match in re.finditer(r"^[ \t]*:label:\s*(\S+)", text, re.MULTILINE):
            stated[match[1]] = stars_at(text, match.start(), starred)
        for match in re.finditer(r"^(:{3,})\{(prf:proof|exercise)\}(.*?)^\1[ \t]*$", text, re.MULTILINE | re.DOTALL):
            stars = stars_at(text, match.start(), starred) + match[3].strip().startswith("★")
            citing += [(chapter.name, label, stars) for label in re.findall(r"\{(?:prf:)?ref\}`([^`<]+)`", match[0])]
    assert not [(name, label) for name, label, stars in citing if stated.get(label, 0) > stars]


# --- every file of the repository --------------------------------------------------------------------------------------


def lines_of_all_files(root: Path) -> list[tuple[str, str]]:
    """Each line of the repository behind the place where it stands, without this file."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [(name, root / name) for name in listing.stdout.splitlines()]
    return [
        (f"{name}:{number}", line)
        for name, path in paths
        if path.is_file() and path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), start=1)
    ]


def test_no_file_names_a_machine(root):
    """Neither the place of a checkout nor the host that packages came from: both are true on one machine only."""
    machine = re.compile(
        rf"{re.escape(str(root))}|(?<![\w./-])/(?:home|Users|root|work|workspace)/|pythonhosted|registry\.npmjs|(?<!emit-)index-url"
    )
    faults = [f"{place}: {line.strip()[:120]}" for place, line in lines_of_all_files(root) if machine.search(line)]
    assert not faults, "\n".join(faults)


def test_no_chapter_is_called_by_its_number(root):
    """Numbers shift when a chapter is added. The sources say {doc}, a label or a name; books that are cited have chapters with numbers."""
    number = re.compile(r"\bchapters? \d", re.IGNORECASE)
    faults = [f"{place}: {line.strip()[:120]}" for place, line in lines_of_all_files(root) if number.search(line) and "{cite" not in line]
    assert not faults, "\n".join(faults)


def test_files_that_are_named_exist(root, chapters):
    """`chapters/03_x`, and a name of two digits and words in a role: in whatever file, also in those that no build reads."""
    names = {chapter.path.stem for chapter in chapters}
    named = re.compile(r"\{doc\}`(?:[^`<]*<)?/?(?:chapters/)?(\d\d_\w+)|\bchapters/(\d\d_\w+)")
    faults = [
        f"{place}: {one or other}"
        for place, line in lines_of_all_files(root)
        for one, other in named.findall(line)
        if (one or other) not in names and not place.startswith("tests/")  # where small books are made up
    ]
    assert not faults, "\n".join(faults)


def test_labels_are_unique(pages):
    found = Counter(
        (label, kind)
        for page in pages
        for cell in page.prose
        for kind, pattern in (("section", r"^\(([\w:.-]+)\)=\s*$"), ("directive", r"^\s*:label:\s*(\S+)\s*$"))
        for label in re.findall(pattern, cell.source, re.MULTILINE)
    )
    assert not [label for (label, _), count in found.items() if count > 1]
