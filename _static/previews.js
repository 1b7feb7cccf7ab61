// Rest the pointer or the keyboard's focus on a reference, and what it refers to is shown beside it: a statement, an exercise, an equation, a work.
// Rest the pointer on a letter of a formula, and the notation says what it means.
// It stays while the pointer is on the reference or on it, and goes at Escape (WCAG 1.4.13). A finger gets no preview; it follows the link.
// What stands on other pages comes from _static/previews/, a script for each page, which calls `previews`.
(() => {
  const SHOWN = ".proof[id]:not(#proof), .exercise[id], .math[id], .citation[id]";
  const LETTER = ".katex-html .mord";
  const ALPHABETS = ["mathcal", "mathbf", "mathbb"];
  const WAIT = 300; // milliseconds before it comes, so that a passing pointer shows nothing, and before it goes, so that the pointer can reach it
  const pages = new Map();
  const shown = document.createElement("div");
  let link = null;
  let timer = 0;

  const loaded = new Map();
  window.previews = (page, parts) => loaded.get(page)(parts);
  function partsOf(page) {
    if (!pages.has(page)) {
      const script = document.createElement("script");
      pages.set(page, new Promise((resolve) => {
        loaded.set(page, resolve);
        script.onerror = () => resolve([]); // a page that has nothing to show has no script
      }));
      script.src = new URL(`${document.documentElement.dataset.content_root}_static/previews/${page}.js`, location.href).href;
      document.head.append(script);
    }
    return pages.get(page);
  }

  // What stands in the notation on a letter: the rows on just this symbol; if there are none, on the letter alone; if none, on the letter at all.
  async function meaningOf(letter) {
    const table = await partsOf("symbols");
    const hangs = letter.nextElementSibling;
    const decoration = hangs?.matches(".msupsub") ? hangs.textContent.replaceAll("\u200b", "") : "";
    const alphabet = ALPHABETS.find((name) => letter.classList.contains(name)) ?? "";
    const rows = [...letter.textContent].flatMap((sign) => {
      const named = (fits) => table.filter((row) => row.symbols.some(fits));
      const bare = `${sign}|${alphabet}|`;
      const levels = [named((name) => name === bare + decoration), named((name) => name === bare), named((name) => name.startsWith(bare))];
      return levels.find((level) => level.length) ?? [];
    });
    return rows.length ? `<table class="symbols"><tbody>${[...new Set(rows)].map(({ row }) => row).join("")}</tbody></table>` : "";
  }

  async function partOf(reference) {
    if (reference.matches(LETTER)) return meaningOf(reference);
    const target = new URL(reference.href);
    const id = decodeURIComponent(target.hash.slice(1));
    if (target.pathname === location.pathname) {
      const here = document.getElementById(id);
      if (!here?.matches(SHOWN)) return "";
      const copy = here.cloneNode(true);
      copy.querySelectorAll(".headerlink").forEach((sign) => sign.remove());
      copy.querySelectorAll("a").forEach((other) => other.replaceWith(...other.childNodes));
      [copy, ...copy.querySelectorAll("[id], [tabindex]")].forEach((part) => ["id", "tabindex"].forEach((name) => part.removeAttribute(name)));
      return copy.outerHTML;
    }
    const root = new URL(document.documentElement.dataset.content_root, location.href).pathname;
    const page = decodeURIComponent(target.pathname).slice(decodeURIComponent(root).length).replace(/\.html$/, "");
    return (await partsOf(page))[id] ?? "";
  }

  async function show(reference) {
    const part = await partOf(reference);
    if (link !== reference || !part) return; // the pointer may have moved on meanwhile
    shown.innerHTML = part;
    shown.hidden = false;
    reference.setAttribute("aria-describedby", shown.id);
    const at = reference.getClientRects()[0];
    const width = document.documentElement.clientWidth;
    shown.style.left = `${Math.max(8, Math.min(at.left, width - shown.offsetWidth - 8)) + scrollX}px`;
    const below = at.bottom + 4 + shown.offsetHeight <= innerHeight || at.top < shown.offsetHeight + 4;
    shown.style.top = `${(below ? at.bottom + 4 : at.top - shown.offsetHeight - 4) + scrollY}px`;
  }

  function hide() {
    clearTimeout(timer);
    link?.removeAttribute("aria-describedby");
    link = null;
    shown.hidden = true;
  }

  function rest(reference) {
    if (link === reference && !shown.hidden) return clearTimeout(timer);
    hide();
    link = reference;
    timer = setTimeout(() => show(reference), WAIT);
  }
  function leave() {
    clearTimeout(timer);
    timer = setTimeout(hide, WAIT);
  }

  document.addEventListener("DOMContentLoaded", () => {
    Object.assign(shown, { id: "preview", hidden: true, className: "bd-article" });
    shown.setAttribute("role", "tooltip");
    document.body.append(shown);
    const mouse = (then) => (event) => event.pointerType === "mouse" && then();
    shown.addEventListener("pointerenter", mouse(() => clearTimeout(timer)));
    shown.addEventListener("pointerleave", mouse(leave));
    for (const reference of document.querySelectorAll('article a.reference.internal[href*="#"]')) {
      reference.removeAttribute("title"); // of a work it is its key; and a tip over a tip is one too many
      reference.addEventListener("pointerenter", mouse(() => rest(reference)));
      reference.addEventListener("pointerleave", mouse(leave));
      reference.addEventListener("focus", () => reference.matches(":focus-visible") && rest(reference));
      reference.addEventListener("blur", leave);
    }
    for (const formula of document.querySelectorAll("article .katex-html")) {
      if (formula.closest("a")) continue; // there the link's own preview comes
      const letterOf = ({ target }) => (target.matches(LETTER) && !target.childElementCount ? target : null);
      formula.addEventListener("pointerover", (event) => mouse(() => letterOf(event) && rest(event.target))(event));
      formula.addEventListener("pointerout", (event) => mouse(() => letterOf(event) && leave())(event));
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  });
})();
