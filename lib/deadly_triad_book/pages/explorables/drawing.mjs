// Pieces of pictures, as the text of SVG.

/** A linear scale from [low, high] to pixels, with its inverse, which stays within [low, high]. */
export function scale(low, high, from, to) {
  const there = (value) => from + ((value - low) / (high - low)) * (to - from);
  there.inverse = (pixel) => Math.min(high, Math.max(low, low + ((pixel - from) / (to - from)) * (high - low)));
  there.ends = [from, to];
  return there;
}

/** A number in as many significant digits, without an exponent where it can do without. */
export function number(value, digits) {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  if (size >= 6 || size < -5) return value.toExponential(digits - 1).replace("e+", " · 10^").replace("e-", " · 10^−");
  const rounded = Number(value.toPrecision(digits));
  return size >= digits ? rounded.toFixed(0) : String(rounded).replace("-", "−");
}

const short = (value) => Number(value.toFixed(1));
const attributes = (more) => Object.entries(more).map(([name, value]) => ` data-${name}="${value}"`).join("");

export const circle = (x, y, r, kind, more = {}) => `<circle class="${kind}" cx="${short(x)}" cy="${short(y)}" r="${short(r)}"${attributes(more)}/>`;

/** A ring to drag; what takes hold of it is larger than it, as large as a finger. */
export const handle = (x, y, name, kind = "ex-handle") => circle(x, y, 8, kind) + circle(x, y, 18, "ex-grip", { drag: name });
export const line = (x1, y1, x2, y2, kind) => `<path class="${kind}" d="M${short(x1)} ${short(y1)}L${short(x2)} ${short(y2)}"/>`;
export const text = (x, y, what, kind = "", anchor = "start") => `<text class="${kind}" x="${short(x)}" y="${short(y)}" text-anchor="${anchor}">${what}</text>`;
export const arrow = (x, y, dx, dy, length) =>
  `<path d="M${short(x)} ${short(y)}l${short(dx * length)} ${short(dy * length)}"/>`;

/** A line through points; it ends at the first that is not finite. */
export function path(points, kind, clip) {
  const bad = points.findIndex(([x, y]) => !Number.isFinite(x) || !Number.isFinite(y));
  const good = bad < 0 ? points : points.slice(0, bad);
  const d = good.map(([x, y]) => `${short(x)} ${short(y)}`).join("L");
  return `<path class="${kind}" d="M${d}"${clip ? ` clip-path="url(#${clip})"` : ""}/>`;
}

/** Nothing of a path that has this name as its clip is drawn outside the axes. */
export function clip(name, { x, y }) {
  const [left, right] = x.ends, [bottom, top] = y.ends;
  return `<clipPath id="${name}"><rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/></clipPath>`;
}

/** Two axes with ticks and names. */
export function axes({ x, y }, { across, up, ticksX, ticksY, showX = String, showY = String }) {
  const [left, right] = x.ends, [bottom, top] = y.ends;
  return [
    `<path class="ex-axis" d="M${left} ${top}V${bottom}H${right}"/>`,
    ...ticksX.map((tick) => text(x(tick), bottom + 15, showX(tick).replace("-", "−"), "", "middle")),
    ...ticksY.map((tick) => text(left - 5, y(tick) + 4, showY(tick).replace("-", "−"), "", "end")),
    text((left + right) / 2, bottom + 32, across, "", "middle"),
    `<text transform="rotate(-90)" x="${-(top + bottom) / 2}" y="11" text-anchor="middle">${up}</text>`,
  ].join("");
}

/** The panels of a figure in a state, as the page has them before any script runs. A panel with a `table` is HTML and spans the width. */
export function picture(figure, state, panels) {
  return panels.map((name) => {
    const { title, alt, body, table } = figure.panels[name](state, false);
    if (table) return `<figure class="ex-panel ex-wide"><figcaption>${title}</figcaption><div data-panel="${name}">${table}</div></figure>`;
    return `<figure class="ex-panel"><figcaption>${title}</figcaption><svg data-panel="${name}" viewBox="0 0 300 280" role="img" aria-label="${alt}">${body.join("")}</svg></figure>`;
  }).join("");
}
