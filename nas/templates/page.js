// The script of a run's page: draws the figures, and links sliders, brushes, figures, table and cards.
// All text of a study is set by textContent. Labels of figures come escaped from `nas.runs.figures.style.plain`.
"use strict";
(() => {
  const ROWS_SHOWN = 100;
  const NARROW = 640;
  const BESIDE = 3;
  const PAPER_WIDTH = 690;
  const SVG = "http://www.w3.org/2000/svg";
  const KINDS = { conv: "#0072B2", pointwise: "#E69F00", depthwise: "#009E73", linear: "#CC79A7" };

  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const data = read("data");
  const figures = read("figures");
  const count = data.number.length;
  const rowOf = new Map(data.number.map((number, row) => [number, row]));
  const element = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  // Numbers and intervals as the commands write them.
  function number(value) {
    if (value === undefined || value === null) return "-";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    if (size >= 10) return value.toFixed(1);
    return size > 0 && size < 0.0005 ? value.toPrecision(2) : value.toFixed(3);
  }
  function interval(name, row) {
    if (!(name in data.low)) return "";
    const low = data.low[name][row], high = data.high[name][row];
    return low < high ? `${number(low)} to ${number(high)}` : "";
  }

  const starred = (name, row) => number(data.value[name][row]) + (data.far[name]?.[row] ? "*" : "");

  // State: what sliders, the brush over points and the marks on parallel axes leave.
  const kept = new Uint8Array(count).fill(1);
  const limits = new Map();
  let brushed = null;
  let marked = null;
  let onlyFront = false;
  let order = { name: data.objectives[0], down: false };

  function keep() {
    const upper = [...limits].map(([name, limit]) => [data.value[name], limit]);
    let left = 0;
    for (let row = 0; row < count; row += 1) {
      let stays = !(onlyFront && !data.best[row]) && !(brushed && !brushed[row]) && !(marked && !marked[row]);
      for (const [values, limit] of upper) stays = stays && values[row] <= limit;
      kept[row] = stays ? 1 : 0;
      left += kept[row];
    }
    return left;
  }

  let waiting = 0;
  let resting = 0;
  let cost = 0; // milliseconds that the figures took last: they get half of the time, the slider the other
  function changed() {
    const left = keep();
    byId("remain").textContent = `${left.toLocaleString("en")} of ${count.toLocaleString("en")} candidates remain.`;
    byId("reset").hidden = left === count;
    byId("brushed").hidden = !brushed;
    if (brushed) byId("brushed").firstElementChild.textContent = "Kept by dragging over points.";
    showCommand();
    showTable();
    if (!waiting) waiting = setTimeout(() => {
      const begin = performance.now();
      waiting = 0;
      mark("scatter");
      cost = performance.now() - begin;
    }, cost);
    clearTimeout(resting); // what is slow to draw follows when the slider rests
    resting = setTimeout(() => { mark("scatter3d"); mark("parcoords"); }, 180);
  }

  // Sliders: a step for each value that occurs, so that each step matters on any scale.
  function makeSliders() {
    for (const name of data.metrics) {
      const steps = [...new Set(data.value[name])].sort((one, other) => one - other);
      if (steps.length < 2) continue;
      const label = element("label", undefined, byId("sliders"));
      const line = element("span", undefined, label);
      element("b", name, line);
      const told = element("output", undefined, line);
      const slider = element("input", undefined, label);
      Object.assign(slider, { type: "range", min: 0, max: steps.length - 1, step: 1, value: steps.length - 1 });
      slider.dataset.metric = name;
      slider.addEventListener("input", () => {
        const limit = steps[Number(slider.value)];
        told.textContent = `≤ ${number(limit)}`;
        slider.setAttribute("aria-valuetext", `at most ${number(limit)}`);
        if (Number(slider.value) === steps.length - 1) limits.delete(name);
        else limits.set(name, limit);
        changed();
      });
      told.textContent = `≤ ${number(steps[steps.length - 1])}`;
    }
  }

  // Of six digits, rounded up: the command has to keep the candidate at the limit.
  function upwards(value) {
    if (Number.isInteger(value) || value === 0) return String(value);
    const scale = 10 ** (5 - Math.floor(Math.log10(Math.abs(value))));
    return String(Number((Math.ceil(value * scale + 1e-6) / scale).toPrecision(6)));
  }
  function shell(text) {
    return /^[\w.=:<-]+$/.test(text) && !/[<]/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  }
  function showCommand() {
    const words = [...limits].map(([name, limit]) => `--max ${shell(`${name}=${upwards(limit)}`)}`);
    byId("command").hidden = !words.length || !data.can_pick;
    byId("command").querySelector("code").textContent = ["nas pick", shell(data.study), ...words].join(" ");
  }

  // The table of what remains; a click on a heading sorts by it.
  const columns = [...new Set([...data.objectives, ...data.metrics])].slice(0, Math.max(4, data.objectives.length));
  function showTable() {
    const table = byId("remaining");
    if (!table) return;
    const rows = [];
    for (let row = 0; row < count; row += 1) if (kept[row]) rows.push(row);
    const values = order.name === "candidate" ? data.number : data.value[order.name];
    rows.sort((one, other) => (order.down ? -1 : 1) * (values[one] - values[other]) || one - other);
    const body = document.createElement("tbody");
    for (const row of rows.slice(0, ROWS_SHOWN)) body.append(tableRow(row));
    table.tBodies[0].replaceWith(body);
    const more = rows.length - ROWS_SHOWN;
    byId("left-out").textContent = more > 0 ? `and ${more.toLocaleString("en")} more` : "";
  }
  function tableRow(row) {
    const line = document.createElement("tr");
    line.tabIndex = 0;
    line.dataset.number = data.number[row];
    element("th", data.best[row] ? `${data.number[row]} (front)` : String(data.number[row]), line).scope = "row";
    for (const name of columns) {
      const wide = interval(name, row);
      element("td", starred(name, row) + (wide ? ` (${wide})` : ""), line);
    }
    element("td", data.bits[row], line);
    element("td", data.defence[row], line);
    return line;
  }
  function makeTable() {
    const table = byId("remaining");
    if (!table) return;
    const head = document.createElement("tr");
    for (const name of ["candidate", ...columns, "bits", "defence"]) {
      const cell = element("th", name, head);
      cell.scope = "col";
      if (name === "bits" || name === "defence") continue;
      cell.textContent = "";
      element("button", name, cell).addEventListener("click", () => {
        order = { name, down: order.name === name && !order.down };
        showTable();
      });
    }
    table.tHead.replaceChildren(head);
    const open = (event) => {
      const line = event.target.closest("tbody tr");
      if (line) showCard(rowOf.get(Number(line.dataset.number)), event, true);
    };
    table.addEventListener("click", open);
    table.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.tagName === "TR") open(event); });
  }

  // Figures whose points are candidates.
  const linked = (plot, kind) =>
    (plot.data || []).flatMap((trace, place) => {
      const found = trace.type === "scattergl" || trace.type === undefined ? "scatter" : trace.type;
      return trace.meta === "candidates" && found === kind ? [place] : [];
    });
  const numbersOf = (plot, place) => figures[plot.id].candidates[place];

  function mark(kind) {
    const all = kept.every((stays) => stays);
    for (const plot of document.querySelectorAll(".plot.drawn")) {
      const places = linked(plot, kind);
      if (!places.length) continue;
      if (kind === "scatter") {
        const chosen = places.map((place) => (all ? null : indicesOf(numbersOf(plot, place))));
        Plotly.update(plot, { selectedpoints: chosen }, plot.layout.selections?.length ? { selections: [] } : {}, places);
      } else if (kind === "scatter3d") {
        Plotly.restyle(plot, shownInSpace(plot, places), places);
      } else {
        // Marks on its axes dim lines by themselves; what else is out becomes grey.
        const { colours, rows } = linesOf(plot);
        Plotly.restyle(plot, { "line.color": [rows.map((row, place) => (kept[row] || onlyMarked(row) ? colours[place] : 0))] }, places);
      }
    }
  }
  function indicesOf(rows) {
    const found = [];
    for (let place = 0; place < rows.length; place += 1) if (kept[rows[place]]) found.push(place);
    return found;
  }
  function shownInSpace(plot, places) {
    const { axes } = figures[plot.id].layout.meta;
    const rows = places.map((place) => numbersOf(plot, place).filter((row) => kept[row]));
    const changes = { customdata: rows.map((some) => some.map((row) => data.number[row])) };
    "xyz".split("").forEach((axis, place) => {
      changes[axis] = rows.map((some) => some.map((row) => data.value[axes[place]][row]));
    });
    return changes;
  }
  const onlyMarked = (row) => marked && !marked[row];
  const lines = new Map();
  function linesOf(plot) {
    if (!lines.has(plot.id)) {
      const rows = numbersOf(plot, 0);
      lines.set(plot.id, { rows, colours: rows.map((row) => (data.best[row] ? 2 : data.over[row] ? 0 : 1)) });
    }
    return lines.get(plot.id);
  }

  // What marks on parallel axes keep, of all candidates, drawn there or not: of each axis one range, or several.
  function marksOf(plot) {
    const ranges = plot.data[0].dimensions.map((axis) => axis.constraintrange);
    const held = ranges.flatMap((range, axis) => (range && range.length ? [[range, axis]] : []));
    if (!held.length) return null;
    const { numbers, values } = figures[plot.id].layout.meta;
    const found = new Uint8Array(count);
    decoded(numbers).forEach((one, place) => {
      const passes = ([range, axis]) =>
        (Array.isArray(range[0]) ? range : [range]).some(([low, high]) => low <= values[axis][place] && values[axis][place] <= high);
      found[rowOf.get(one)] = held.every(passes) ? 1 : 0;
    });
    return found;
  }

  function link(plot) {
    const figure = figures[plot.id];
    if (!figure.candidates.length) return;
    plot.on("plotly_hover", (event) => point(event, false));
    plot.on("plotly_unhover", hideCard);
    plot.on("plotly_click", (event) => point(event, true));
    plot.on("plotly_selected", (event) => {
      if (!event || !(event.range || event.lassoPoints)) return; // not a drag
      brushed = new Uint8Array(count);
      for (const one of event.points) if (rowOf.has(one.customdata)) brushed[rowOf.get(one.customdata)] = 1;
      changed();
    });
    plot.on("plotly_deselect", () => { brushed = null; changed(); });
    plot.on("plotly_restyle", ([change]) => {
      if (!Object.keys(change).some((name) => name.includes("constraintrange"))) return;
      marked = marksOf(plot);
      changed();
    });
  }
  function point(event, keepIt) {
    const row = rowOf.get(event.points[0].customdata);
    if (row !== undefined) showCard(row, event.event, keepIt);
  }

  // The card of a candidate.
  const card = byId("card");
  function showCard(row, event, keepIt) {
    if (card.classList.contains("kept") && !keepIt) return;
    card.replaceChildren();
    element("button", "close", card).addEventListener("click", closeCard);
    const where = data.over[row] ? "over a limit" : data.best[row] ? "on the front" : "not on the front";
    element("h3", `Candidate ${data.number[row]}, ${where}`, card);
    element("div", `bits ${data.bits[row]}`, card);
    element("div", `defence ${data.defence[row]}`, card);
    const means = data.trainings[row];
    element("div", means ? `confirmed: means of further trainings (${means})` : "not confirmed: one training", card);
    if (data.over[row]) element("div", data.over[row], card);
    card.append(drawing(data.networks[data.network[row]]));
    const table = element("table", undefined, card);
    let far = false;
    for (const name of data.metrics) {
      far = far || data.far[name]?.[row];
      const line = element("tr", undefined, table);
      element("th", name, line);
      element("td", starred(name, row), line);
      element("td", interval(name, row), line);
    }
    if (far) element("div", "* extrapolated: its interval is a guess", card);
    card.hidden = false;
    card.classList.toggle("kept", keepIt);
    place(event);
  }
  function place(event) {
    const box = event && event.target && event.target.getBoundingClientRect ? event.target.getBoundingClientRect() : { left: 0, top: 0 };
    const x = event && event.clientX !== undefined ? event.clientX : box.left;
    const y = event && event.clientY !== undefined ? event.clientY : box.top;
    const room = { x: innerWidth - card.offsetWidth - 8, y: innerHeight - card.offsetHeight - 8 };
    const left = x + 18 <= room.x ? x + 18 : x - card.offsetWidth - 18;
    card.style.left = `${Math.max(8, Math.min(left, room.x))}px`;
    card.style.top = `${Math.max(8, Math.min(y + 12, room.y))}px`;
  }
  function hideCard() { if (!card.classList.contains("kept")) card.hidden = true; }
  function closeCard() { card.classList.remove("kept"); card.hidden = true; }

  // A network: a box for each layer, as high as its output and as wide as its channels (both by their logarithms).
  function drawing(network) {
    const wide = network.boxes.map(([, channels]) => 6 + 4 * Math.log2(channels + 1));
    const total = wide.reduce((sum, one) => sum + one + 4, 4);
    const high = 62, middle = 34;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${Math.max(total, 160)} ${high + 14}`);
    svg.setAttribute("role", "img");
    const words = network.boxes.map(([kind, channels, side, bits]) => `${kind} ${channels}x${side}${bits ? ` ${bits} bits` : ""}`);
    svg.setAttribute("aria-label", words.join(", "));
    const add = (tag, attributes, text) => {
      const made = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      if (text !== undefined) made.textContent = text;
      svg.append(made);
      return made;
    };
    const middles = [];
    let x = 4;
    network.boxes.forEach(([kind, channels, side, bits, reads, zeros], index) => {
      const tall = 8 + 8 * Math.log2(side + 1);
      const colour = KINDS[kind] || "#888888";
      const box = add("rect", { x, y: middle - tall / 2, width: wide[index], height: tall, rx: 1.5, fill: colour, "fill-opacity": 0.75 });
      const about = `${words[index]}${bits ? `, reads ${reads} bits` : ""}${zeros ? `, ${zeros} % zeros` : ""}`;
      const title = document.createElementNS(SVG, "title");
      title.textContent = about;
      box.append(title);
      middles.push(x + wide[index] / 2);
      if (bits) add("text", { x: middles[index], y: high + 11, "text-anchor": "middle", "font-size": 7, fill: "currentColor" }, String(bits));
      x += wide[index] + 4;
    });
    for (const [from, to] of network.skips) {
      const top = 6;
      add("path", { d: `M${middles[from]} 14 Q${(middles[from] + middles[to]) / 2} ${top - 8} ${middles[to]} 14`, fill: "none", stroke: "currentColor", "stroke-width": 0.8 });
    }
    for (const index of network.exits) add("text", { x: middles[index], y: 8, "text-anchor": "middle", "font-size": 8, fill: "currentColor" }, "exit");
    if (network.more) add("text", { x: x, y: middle, "font-size": 7, fill: "currentColor" }, `and ${network.more} more`);
    return svg;
  }

  // Looks: light, dark and paper by the page's own colours.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function look() {
    const [ink, paper, line] = ["--ink", "--paper", "--line"].map(colour);
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
    const solid = { gridcolor: line, zerolinecolor: line, backgroundcolor: "rgba(0,0,0,0)", color: ink };
    return { layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 },
      margin: { l: 60, r: 15, t: 45, b: 50 }, xaxis: axis, yaxis: axis, hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink }, scene: { xaxis: solid, yaxis: solid, zaxis: solid },
      newselection: { line: { color: ink } },
    } };
  }

  // Panels beside each other, below each other where the page is narrow.
  function panels(plot, layout, width) {
    const names = Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name));
    if (names.length < 2) return {};
    const own = plot.id.startsWith("choice") ? names.length : BESIDE;
    const across = width < NARROW ? 1 : Math.min(own, names.length);
    const down = Math.ceil(names.length / across);
    const gap = plot.id.startsWith("choice") && across > 1 ? 0.02 : 0.08;
    const wide = (1 - gap * (across - 1)) / across;
    const between = down > 1 ? Math.min(0.16, 70 / (figures[plot.id].height * (down / figures[plot.id].down))) : 0;
    const high = (1 - between * (down - 1)) / down;
    const changes = { height: figures[plot.id].height * (down / figures[plot.id].down) };
    names.forEach((name, index) => {
      const left = (index % across) * (wide + gap);
      const top = 1 - Math.floor(index / across) * (high + between);
      const vertical = name.replace("x", "y");
      changes[`${name}.domain`] = [left, left + wide];
      changes[`${vertical}.domain`] = [Math.max(0, top - high), top];
      if (plot.id.startsWith("choice")) changes[`${vertical}.showticklabels`] = across === 1 || index === 0;
    });
    return changes;
  }

  function buttons(figure) {
    if (figure.data[0]?.type === "parcoords") return [["toImage"]];
    if (figure.layout.scene) return [["toImage"], ["zoom3d", "orbitRotation", "resetCameraDefault3d"]];
    const drags = figure.layout.dragmode === "select" ? ["select2d", "lasso2d"] : [];
    return [["toImage"], [...drags, "zoom2d", "pan2d", "resetScale2d"]];
  }

  const touch = matchMedia("(pointer: coarse)").matches;
  async function draw(plot) {
    const start = performance.now();
    const figure = figures[plot.id];
    const layout = { ...figure.layout, template: look(), autosize: true };
    const downs = Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name)).map((name) => JSON.stringify(layout[name.replace("x", "y")].domain));
    Object.assign(figure, { height: layout.height, down: new Set(downs).size || 1 });
    figure.candidates = figure.data.map((trace) => trace.meta === "candidates" ? rowsOf(trace) : []);
    if (layout.meta?.values) layout.meta.values = layout.meta.values.map(decoded);
    if (figure.candidates.every((rows) => !rows.length)) figure.candidates = [];
    for (const trace of figure.data) {
      if (trace.meta === "candidates" && trace.type !== "parcoords") Object.assign(trace, { hoverinfo: "none", hovertemplate: undefined });
    }
    if (touch) layout.dragmode = layout.scene ? "orbit" : false;
    const config = { responsive: true, displaylogo: false, modeBarButtons: buttons(figure) };
    await Plotly.newPlot(plot, figure.data, layout, config);
    const changes = panels(plot, layout, plot.clientWidth);
    if (Object.keys(changes).length) await Plotly.relayout(plot, changes);
    plot.classList.add("drawn");
    link(plot);
    performance.measure(plot.id, { start });
  }
  function rowsOf(trace) {
    return Array.from(decoded(trace.customdata), (one) => rowOf.get(one));
  }
  // Plotly for Python writes arrays of numbers as base64.
  function decoded(array) {
    if (Array.isArray(array)) return array;
    const { dtype, bdata } = array;
    const bytes = Uint8Array.from(atob(bdata), (letter) => letter.charCodeAt(0));
    const kinds = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };
    return new kinds[dtype](bytes.buffer);
  }

  const visible = () => [...document.querySelectorAll(".plot")].filter((plot) => !plot.closest("figure").hidden);
  async function drawAll() {
    for (const plot of visible()) {
      if (plot.classList.contains("drawn")) continue;
      await new Promise((next) => setTimeout(next));
      await draw(plot);
    }
  }
  function relook(width) {
    for (const plot of document.querySelectorAll(".plot.drawn")) {
      const changes = { template: look(), ...panels(plot, plot.layout, width || plot.clientWidth) };
      Plotly.relayout(plot, width ? { ...changes, width } : { ...changes, width: null, autosize: true });
    }
  }
  function switches() {
    for (const select of document.querySelectorAll("section select")) {
      const show = () => {
        for (const figure of select.closest("section").querySelectorAll("figure[data-of]")) figure.hidden = figure.dataset.of !== select.value;
        return drawAll();
      };
      select.addEventListener("change", show);
      for (const figure of select.closest("section").querySelectorAll("figure[data-of]")) figure.hidden = figure.dataset.of !== select.value;
    }
  }
  function reset() {
    for (const slider of byId("sliders").querySelectorAll("input")) {
      slider.value = slider.max;
      slider.dispatchEvent(new Event("input"));
    }
    byId("only-front").checked = onlyFront = false;
    brushed = marked = null;
    const parallel = byId("parallel-plot");
    if (parallel && parallel.classList.contains("drawn")) {
      const none = Object.fromEntries(parallel.data[0].dimensions.map((_, place) => [`dimensions[${place}].constraintrange`, null]));
      Plotly.restyle(parallel, none);
    }
    changed();
  }

  function begin() {
    const theme = byId("theme");
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const root = document.documentElement;
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      relook();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => relook());
    addEventListener("beforeprint", () => relook(PAPER_WIDTH));
    addEventListener("afterprint", () => relook());
    let resized = 0;
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === width) return; // a phone's bar comes and goes
      width = innerWidth;
      clearTimeout(resized);
      resized = setTimeout(() => relook(), 150);
    });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeCard(); });
    byId("reset").addEventListener("click", reset);
    byId("brushed").querySelector("button").addEventListener("click", () => { brushed = null; changed(); });
    byId("only-front").addEventListener("change", (event) => { onlyFront = event.target.checked; changed(); });
    switches();
    if (count) {
      byId("only").hidden = false;
      makeSliders();
      makeTable();
      changed();
    }
    drawAll().then(() => { document.documentElement.dataset.ready = "yes"; });
  }
  begin();
})();
