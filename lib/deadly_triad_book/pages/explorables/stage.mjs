// What makes a figure on a page move: sliders, handles to drag, links in the prose that set it, its state in the address. Needs a browser.

const WAIT = 600; // milliseconds of rest after which the sentence is read aloud and the address follows

/** The part of an address after # that holds a state, or null. */
export function stateIn(hash, name) {
  const [where, query] = decodeURIComponent(hash.replace(/^#/, "")).split("?");
  return where === name && query ? query : null;
}

/** Bring the numbers of a query such as "g=0.9&p=0.5" into a state, each within the range of its knob; others are left alone. */
export function withQuery(state, query, knobs) {
  const next = { ...state };
  for (const [key, value] of new URLSearchParams(query)) {
    const knob = knobs.find((knob) => knob.key === key);
    if (knob && value.trim() !== "" && Number.isFinite(Number(value))) next[key] = Math.min(knob.max, Math.max(knob.min, Number(value)));
    else if (knob?.choices?.includes(value)) next[key] = value;
  }
  return next;
}

export const query = (state) => Object.entries(state).map(([key, value]) => `${key}=${typeof value === "number" ? Number(value.toPrecision(6)) : value}`).join("&");

const position = (knob, value) => (knob.log ? Math.log10(value) : value);
const value = (knob, position) => (knob.log ? 10 ** position : position);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function slider(knob, change) {
  const input = element("input", { type: "range", min: position(knob, knob.min), max: position(knob, knob.max), step: knob.by });
  const output = element("output");
  input.addEventListener("input", () => change({ [knob.key]: value(knob, Number(input.value)) }));
  const set = (now) => {
    input.value = position(knob, now);
    output.textContent = knob.show(now);
    input.setAttribute("aria-valuetext", knob.show(now));
  };
  return [element("label", { className: `ex-knob ${knob.factor ? `factor-${knob.factor}` : ""}` }, element("span", { textContent: knob.label }), input, output), set];
}

function choice(knob, change) {
  const select = element("select", {}, ...knob.choices.map((name) => element("option", { value: name, textContent: knob.show?.(name) ?? name })));
  select.addEventListener("change", () => change({ [knob.key]: select.value }));
  return [element("label", { className: "ex-knob" }, element("span", { textContent: knob.label }), select), (now) => (select.value = now)];
}

/** Set a figure going in the element that holds its still picture; one that is made of data is a function of them. */
export function play(root, made) {
  const figure = typeof made === "function" ? made(JSON.parse(root.querySelector(".ex-data").textContent)) : made;
  const name = root.id, panels = [...root.querySelectorAll("[data-panel]")];
  const all = [...figure.knobs, ...(figure.start ?? [])];
  const original = withQuery(figure.state, root.dataset.state, all);
  let state = original, timer = null;

  const setters = new Map();
  const knobs = (list) =>
    list.map((knob) => {
      const [label, set] = knob.choices ? choice(knob, change) : slider(knob, change);
      setters.set(knob.key, set);
      return label;
    });
  const controls = element("div", { className: "ex-controls" }, ...knobs(figure.knobs));
  if (figure.start && panels.some((panel) => panel.querySelector("[data-drag=start]")))
    controls.append(element("details", { className: "ex-more" }, element("summary", { textContent: figure.startTitle ?? "Start elsewhere" }), ...knobs(figure.start)));
  const back = element("button", { type: "button", className: "ex-back", textContent: "Back to the beginning" });
  back.addEventListener("click", () => change(original));
  controls.append(back);
  const runner = figure.knobs.find((knob) => knob.plays);
  if (runner && !matchMedia("(prefers-reduced-motion: reduce)").matches) back.before(runs(runner));
  const said = root.querySelector(".ex-said"), aloud = element("p", { className: "ex-aloud", role: "status" });
  said.before(controls);
  root.append(aloud);
  const whys = [...root.querySelectorAll("[data-why]")];
  root.querySelector(".ex-reasons")?.remove();
  if (whys.length) panels[0].closest("figure").after(element("div", { className: "ex-whys" }, ...whys));

  function draw() {
    for (const panel of panels) {
      const { title, body, table } = figure.panels[panel.dataset.panel](state, true), held = panel.contains(document.activeElement);
      panel.innerHTML = table ?? body.join("");
      if (held) panel.querySelector("[tabindex='0']")?.focus();
      panel.previousElementSibling.textContent = title;
    }
    for (const [key, set] of setters) set(state[key]);
    said.textContent = figure.says(state);
    for (const why of whys) why.hidden = !figure.whys(state).includes(why.dataset.why);
    root.classList.toggle("ex-alarmed", figure.alarm(state));
    back.style.visibility = query(state) === query(original) ? "hidden" : "visible"; // it keeps its place: a figure must not jump under a hand
    for (const link of document.querySelectorAll(`a.ex-sets[href="#${name}"]`))
      link.classList.toggle("ex-is-set", query(withQuery(state, link.dataset.set, all)) === query(state));
  }

  function change(patch) {
    state = { ...state, ...patch };
    draw();
    clearTimeout(timer);
    timer = setTimeout(() => {
      aloud.textContent = figure.says(state);
      history.replaceState(null, "", `#${name}?${query(state)}`);
    }, WAIT);
  }

  /** A button that lets one knob run from its least to its largest value, and stops at any other change. */
  function runs(knob) {
    const button = element("button", { type: "button", className: "ex-back", textContent: "Play" });
    let playing = 0;
    const stop = () => {
      cancelAnimationFrame(playing);
      playing = 0;
      button.textContent = "Play";
    };
    const onward = () => {
      const now = state[knob.key] + knob.by;
      if (now > knob.max) return stop();
      change({ [knob.key]: now });
      playing = requestAnimationFrame(onward);
    };
    button.addEventListener("click", () => {
      if (playing) return stop();
      button.textContent = "Stop";
      if (state[knob.key] >= knob.max) change({ [knob.key]: knob.min });
      playing = requestAnimationFrame(onward);
    });
    root.addEventListener("input", stop);
    return button;
  }

  for (const panel of panels.filter((panel) => panel.tagName === "DIV")) {
    panel.addEventListener("click", (event) => {
      const pressed = event.target.closest("[data-press]");
      if (pressed) change(withQuery(state, pressed.dataset.press, all));
    });
    panel.addEventListener("keydown", (event) => {
      const patch = figure.panels[panel.dataset.panel](state, true).keys?.[event.key];
      if (!patch) return;
      event.preventDefault();
      change(patch);
    });
  }

  for (const panel of panels.filter((panel) => panel.tagName !== "DIV")) {
    let drag = null, off = [0, 0]; // by how much the hand took hold beside the middle of the ring
    const pointOf = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(panel.getScreenCTM().inverse());
    const move = (event) => {
      const point = pointOf(event);
      change(figure.panels[panel.dataset.panel](state).drag[drag](point.x + off[0], point.y + off[1], state));
    };
    panel.addEventListener("pointerdown", (event) => {
      drag = event.target.dataset?.drag ?? null;
      if (!drag) return;
      const point = pointOf(event);
      off = [event.target.cx.baseVal.value - point.x, event.target.cy.baseVal.value - point.y];
      panel.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    panel.addEventListener("pointermove", (event) => drag && move(event));
    for (const end of ["pointerup", "pointercancel"]) panel.addEventListener(end, () => (drag = null));
  }

  /** Bring the figure into view; of one that is larger than the window the sentence and what stands below it. */
  function show(behavior) {
    const fits = root.offsetHeight < 0.9 * innerHeight;
    (fits ? root : said).scrollIntoView({ block: fits ? "nearest" : "start", behavior });
  }

  for (const link of document.querySelectorAll(`a.ex-sets[href="#${name}"]`))
    link.addEventListener("click", (event) => {
      event.preventDefault();
      change(withQuery(original, link.dataset.set, all));
      show(matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");
    });

  function follow() {
    const found = stateIn(location.hash, name);
    if (found === null) return;
    state = withQuery(original, found, all);
    draw();
    show("auto");
  }
  addEventListener("hashchange", follow);
  draw();
  follow();
}
