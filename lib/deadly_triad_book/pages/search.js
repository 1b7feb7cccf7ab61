// What the search of Sphinx asks of this book: which page comes first, and what is shown of it. Sphinx makes it a part of language_data.js,
// which every page loads after searchtools.js.

// A page whose own title has all words that were asked for comes before those in which they stand in some section's title or in the text.
Scorer.score = ([, title, , , score]) => {
  const words = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const named = words.length > 0 && words.every((word) => title.toLowerCase().includes(word));
  return named && !title.includes(" > ") ? score + 50 : score;
};

// Of a page, its sentences: not the bar above them, the contents beside them, code, or a formula a second time.
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const other of page.querySelectorAll("h1, pre, script, style, svg, details.admonition, .headerlink, .katex-mathml, .strip, .eqno")) other.remove();
  const place = anchor && page.getElementById(anchor.slice(1));
  const text = place ? (place.textContent.trim() ? place : place.parentElement) : page.querySelector("article.bd-article") ?? page.body;
  return text.textContent.replace(/\s+/g, " ").trim();
};

// A summary begins and ends with whole words.
const summarise = Search.makeSearchSummary;
Search.makeSearchSummary = (...page) => {
  const summary = summarise(...page);
  if (summary) summary.textContent = summary.textContent.replace(/^\.\.\.\S*\s/, "… ").replace(/\s\S*\.\.\.$/, " …");
  return summary;
};
