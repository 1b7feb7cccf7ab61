// What is wider than its box scrolls inside it. Such a box fades out on the side on which it goes on, and the keyboard can reach it.
(() => {
  const BOXES = ".formula, span.math, pre, .cell_output > .output, .pst-scrollable-table-container, .wide-picture, table.indextable";

  function look(box) {
    const rest = box.scrollWidth - box.clientWidth;
    const scrolls = rest > 1 && getComputedStyle(box).overflowX !== "visible";
    box.classList.toggle("goes-on-left", scrolls && box.scrollLeft > 1);
    box.classList.toggle("goes-on-right", scrolls && box.scrollLeft < rest - 1);
    if (scrolls) box.tabIndex = 0;
    else if (box.matches(".formula, span.math")) box.removeAttribute("tabindex");
  }

  document.addEventListener("DOMContentLoaded", () => {
    const boxes = [...document.querySelectorAll(BOXES)];
    const watcher = new ResizeObserver((entries) => entries.forEach((entry) => look(entry.target)));
    for (const box of boxes) {
      watcher.observe(box);
      box.addEventListener("scroll", () => look(box), { passive: true });
    }
    document.fonts.ready.then(() => boxes.forEach(look)); // a font that comes late changes what is inside a box, not the box
  });
})();
