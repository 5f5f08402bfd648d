"use strict";

// Draws the figures in `#data`, colours them by the page's custom properties, and filters by status.
(() => {
  const { figures, trials } = JSON.parse(document.getElementById("data").textContent);
  const ids = trials.columns[0].values;
  const statuses = trials.columns[1].values;
  const hidden = new Set();
  const arrays = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

  function numbers({ dtype, bdata }) {
    return new arrays[dtype](Uint8Array.from(atob(bdata), (c) => c.charCodeAt(0)).buffer);
  }

  // A colour is written `var(--name)`; Plotly needs its value.
  function coloured(value, style) {
    if (typeof value === "string") {
      return value.startsWith("var(") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value === null || typeof value !== "object" || "bdata" in value) return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, style)]));
  }

  // Points refer to their trial by its row; replace it with the trial's name here.
  function named(trace) {
    if (trace.type === "parcoords") return without(trace);
    if (trace.customdata) {
      trace.text = Array.from(numbers(trace.customdata), (row) => ids[row]);
      if (trace.type === "bar") trace.textposition = "none";
    }
    if (trace.meta && trace.meta.status) trace.visible = !hidden.has(trace.meta.status);
    return trace;
  }

  // A line of parallel coordinates cannot be hidden, so the values of hidden trials are left out.
  function without(trace) {
    const shown = Array.from(numbers(trace.customdata), (row) => !hidden.has(statuses[row]));
    const kept = (values) => numbers(values).filter((_, place) => shown[place]);
    const dimensions = trace.dimensions.map((one) => ({ ...one, values: kept(one.values) }));
    return { ...trace, dimensions, line: { ...trace.line, color: kept(trace.line.color) } };
  }

  const touched = matchMedia("(pointer: coarse)");
  function draw(name) {
    const style = getComputedStyle(document.documentElement);
    const { data, layout } = coloured(figures[name], style);
    layout.font = { ...layout.font, family: getComputedStyle(document.body).fontFamily };
    // A finger that drags over a figure scrolls the page.
    layout.dragmode = touched.matches ? false : "zoom";
    layout.uirevision = "same"; // a redraw keeps the reader's selections
    const options = { responsive: true, displayModeBar: false, showTips: false };
    return Plotly.react(`figure-${name}`, data.map(named), layout, options);
  }

  // A figure is drawn when it comes near the window: without a graphics card, all of them take seconds.
  const root = document.documentElement;
  const drawn = new Set();
  let queue = Promise.resolve();
  function drawSoon(name) {
    drawn.add(name);
    queue = queue
      .then(() => draw(name))
      .catch((error) => console.error(`figure ${name}:`, error)) // continue with the figures after it
      .then(() => new Promise((done) => setTimeout(done)));
  }
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          observer.unobserve(target);
          drawSoon(target.dataset.name);
        }
      }
      queue.then(() => (root.dataset.opened ??= performance.now()));
    },
    { rootMargin: "300px" },
  );
  const drawAll = () => Object.keys(figures).filter((name) => !drawn.has(name)).forEach(drawSoon);
  const redraw = () => drawn.forEach(drawSoon);

  const table = document.getElementById("table");
  const more = document.getElementById("more");
  let order = trials.order;
  let limit = 50;
  let sorted = { column: null, down: false };

  function element(tag, text = "", properties = {}) {
    return Object.assign(document.createElement(tag), { textContent: text }, properties);
  }

  function heading(column) {
    const cell = element("th", "", { className: isText(column) ? "text" : "" });
    const button = element("button", column.label, { type: "button" });
    button.addEventListener("click", () => sortBy(column));
    if (sorted.column === column) cell.ariaSort = sorted.down ? "descending" : "ascending";
    cell.append(button);
    return cell;
  }

  function cell(column, row) {
    const value = column.values[row];
    const shown = value !== null && "digits" in column ? value.toFixed(column.digits) : value;
    const made = element("td", shown ?? "–", { className: isText(column) ? "text" : "" });
    if (column.label === "why") made.classList.add("why");
    if (column === trials.columns[1]) {
      const dot = element("i");
      dot.style.setProperty("--tint", `var(--${value})`);
      made.prepend(dot);
    }
    return made;
  }

  const texts = new Set(trials.columns.filter((column) => column.values.some((value) => typeof value === "string")));
  const isText = (column) => texts.has(column);

  function sortBy(column) {
    sorted = { column, down: sorted.column === column && !sorted.down };
    const sign = sorted.down ? -1 : 1;
    const compare = (a, b) => (a < b ? -sign : a > b ? sign : 0);
    const missing = (row) => column.values[row] === null;
    order = [...trials.order].sort(
      (a, b) => missing(a) - missing(b) || compare(column.values[a], column.values[b]),
    );
    list();
  }

  function list() {
    const rows = order.filter((row) => !hidden.has(statuses[row]));
    const head = element("thead");
    const body = element("tbody");
    head.append(element("tr"));
    head.firstChild.append(...trials.columns.map(heading));
    for (const row of rows.slice(0, limit)) {
      const line = element("tr");
      line.append(...trials.columns.map((column) => cell(column, row)));
      body.append(line);
    }
    table.replaceChildren(head, body);
    document.getElementById("shown").textContent = `${Math.min(limit, rows.length)} of ${rows.length} trials`;
    more.hidden = rows.length <= limit;
  }

  more.addEventListener("click", () => {
    limit += 200;
    list();
  });

  for (const button of document.querySelectorAll("button[data-status]")) {
    button.addEventListener("click", () => {
      const { status } = button.dataset;
      if (!hidden.delete(status)) hidden.add(status);
      button.setAttribute("aria-pressed", String(!hidden.has(status)));
      list();
      for (const name of drawn) {
        const { data } = figures[name];
        if (data.some((trace) => trace.type === "parcoords")) drawSoon(name);
        const places = data.flatMap((trace, place) => (trace.meta && trace.meta.status === status ? [place] : []));
        const figure = document.getElementById(`figure-${name}`);
        // A figure that has not been drawn yet is drawn later without hidden trials.
        if (places.length && figure.data) Plotly.restyle(figure, { visible: !hidden.has(status) }, places);
      }
    });
  }

  list();
  document.querySelectorAll(".figure").forEach((figure) => observer.observe(figure));
  addEventListener("beforeprint", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
