// Draws the bytes that dashboards/explore/cells.py packs, and answers with events. Text is drawn with fillText and
// textContent only.

const KEYS = [
  ["arrow keys, click", "lock a cell"], ["Enter", "lock the first cell on screen, or zoom in at the locked one"],
  ["Escape", "unlock"], ["+ and -", "zoom in and out"], ["Home, End", "first and last position on screen"],
  ["Page up, Page down", "earlier and later positions"], ["Space", "play: move the locked cell along the trace"],
  ["?", "show these keys"],
];
const LIGHT = ["#f2f5f9", "#c3d8ea", "#7fb2d6", "#2f80b8", "#08406e"];
const DARK = ["#16202b", "#1f4263", "#2f74a8", "#6bb3df", "#d6efff"];
const LIGHT_SIDES = ["#a04500", "#e9995c", "#f6f4f1", "#6fb0dc", "#004f86"];
const DARK_SIDES = ["#ffb27a", "#b3591c", "#1c2127", "#2c78ad", "#a5d8fb"];
const CHANNELS = { prompt: "#8a8a8a", special: "#F0E442", thought: "#56B4E9", latent: "#CC79A7", answer: "#009E73" };
const HEAD = 20, SIDE = 82, FOOT = 16, NO_VALUE = 255, PLAY_MS = 700, SEND_MS = 120;
const grids = new WeakMap();

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let grid = grids.get(parentElement);
  if (!grid) {
    grid = new Grid(parentElement);
    grids.set(parentElement, grid);
  }
  grid.send = (event) => setTriggerValue("event", event);
  if (data) grid.show(unpack(data, grid));
  return () => { grid.close(); grids.delete(parentElement); };
}

function unpack(data, grid) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data.buffer || data);
  const view = new DataView(bytes.buffer, bytes.byteOffset), decoder = new TextDecoder();
  const part = (start) => {
    const end = start + 4 + view.getUint32(start, true);
    return { end, json: () => JSON.parse(decoder.decode(bytes.subarray(start + 4, end))) };
  };
  const first = part(0), header = part(first.end), { lock, content } = first.json();
  // A header that is shown already is not read again: that of a long trace takes longer than drawing.
  const known = content && grid.header && grid.header.content === content;
  return { header: { ...(known ? grid.header : header.json()), lock, content }, cells: bytes.subarray(header.end) };
}

function mix(stops, share) {
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at));
  const part = (text, i) => parseInt(text.slice(1 + 2 * i, 3 + 2 * i), 16);
  return [0, 1, 2].map((i) => Math.round(part(stops[k], i) * (1 - at + k) + part(stops[k + 1], i) * (at - k)));
}

const luminance = (rgb) => {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.03928 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

class Grid {
  constructor(root) {
    const find = (name) => root.querySelector("." + name);
    for (const name of ["zooms", "earlier", "later", "play", "help", "legend", "ends", "keys", "channels", "map", "words", "pane", "spacer", "cells", "live"])
      this[name] = find(name);
    this.frame = find("frame");
    this.lock = null;
    this.cursor = 0;
    this.listen();
    for (const [channel, colour] of Object.entries(CHANNELS)) {
      const item = document.createElement("span"), square = document.createElement("i");
      square.style.background = colour;
      item.dataset.channel = channel;
      item.append(square, channel);
      this.channels.append(item);
    }
    for (const [key, does] of KEYS) {
      const line = document.createElement("div"), name = document.createElement("b");
      name.textContent = key;
      line.append(name, ": " + does);
      this.keys.append(line);
    }
    this.observer = new ResizeObserver(() => this.layout(true));
    this.observer.observe(this.pane);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    // The page's colours change some frames after the system's.
    this.redraw = (_, left = 120) => {
      if (this.header && this.page() !== this.ground) this.paint();
      else if (left) requestAnimationFrame(() => this.redraw(_, left - 1));
    };
    this.scheme.addEventListener("change", this.redraw);
  }

  close() {
    this.stop();
    clearTimeout(this.sending);
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
  }

  listen() {
    this.pane.addEventListener("scroll", () => this.draw());
    this.pane.addEventListener("keydown", (event) => this.key(event));
    this.cells.addEventListener("click", (event) => this.click(event));
    this.cells.addEventListener("dblclick", () => this.zoom(1));
    this.cells.addEventListener("mousemove", (event) => this.hover(event));
    this.map.addEventListener("click", (event) => this.jump(event));
    this.words.addEventListener("keydown", (event) => this.wordKey(event));
    this.words.addEventListener("click", (event) => this.choose(event.target.closest(".part")));
    this.earlier.onclick = () => this.shift(-1);
    this.later.onclick = () => this.shift(1);
    this.play.onclick = () => this.toggle();
    this.help.onclick = () => this.showKeys();
  }

  show({ header, cells }) {
    const isNew = !this.header || this.header.id !== header.id;
    const isOther = isNew || this.header.view !== header.view;
    const isSame = this.header && this.header.content === header.content;
    // A lock that was moved since it was sent is newer than the page's.
    const waits = this.sending || (this.playing && !isOther);
    this.header = header;
    this.values = cells;
    if (!waits) this.lock = header.lock ? { row: header.lock.row, column: header.lock.column } : null;
    if (!isSame) {
      this.buttons();
      if (isNew || this.segments !== header.segments.length) this.transcript();
    }
    this.mark();
    if (isSame && this.page() === this.ground) {
      this.draw();
      this.minimap();
    } else this.layout();
    if (isOther) this.pane.scrollLeft = Math.max(0, this.firstKnown() - 1) * this.cellWidth;
    if (this.lock) this.reveal();
    if (isOther && this.playing && !this.lock) this.stop();
    this.say();
  }

  // The first column with a value: a prompt that was not captured is left of what is seen first.
  firstKnown() {
    const n = this.header.first.length;
    for (let column = 0; column < n; column++)
      for (let row = 0; row < this.header.rows.length; row++)
        if (this.values[row * n + column] !== NO_VALUE) return column;
    return 0;
  }

  buttons() {
    const { header } = this;
    this.zooms.replaceChildren(...header.zooms.map((zoom) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = zoom.label;
      button.setAttribute("aria-pressed", String(zoom.name === header.zoom));
      button.onclick = () => this.send({ kind: "zoom", zoom: zoom.name, at: this.position() });
      return button;
    }));
    for (const item of this.channels.children)
      item.hidden = !header.segments.some((segment) => segment.channel === item.dataset.channel);
    this.earlier.disabled = header.start <= 0;
    this.later.disabled = header.stop >= header.total;
    this.play.disabled = !header.rows.length;
    this.ends.textContent = `${this.format(header.low)} to ${this.format(header.high)}, ${header.unit}`;
    this.pane.setAttribute("aria-label", `${header.label}: ${header.rows.length} rows, positions ${header.start} to ${header.stop - 1}. Arrow keys lock a cell.`);
  }

  transcript() {
    this.segments = this.header.segments.length;
    this.words.replaceChildren(...this.header.segments.map((segment, k) => {
      const part = document.createElement("div");
      part.className = "part";
      part.id = "part-" + k;
      part.setAttribute("role", "option");
      part.dataset.k = k;
      return part;
    }));
    this.header.segments.forEach((_, k) => this.fill(k));
  }

  fill(k, lock) {
    const segment = this.header.segments[k], part = this.words.children[k], name = document.createElement("span");
    name.className = "name";
    name.textContent = segment.name;
    if (lock) {
      const mark = document.createElement("mark");
      mark.textContent = lock.token;
      part.replaceChildren(name, lock.before, mark, lock.after);
    } else part.replaceChildren(name, segment.text);
  }

  mark() {
    const { header } = this, position = this.position();
    if (this.marked !== undefined && this.words.children[this.marked]) this.fill(this.marked);
    this.marked = undefined;
    header.segments.forEach((segment, k) => {
      const part = this.words.children[k], holds = position !== null && segment.start <= position && position < segment.stop;
      const seen = segment.start < header.stop && segment.stop > header.start && header.stop - header.start < header.total;
      // Only what changes is written: a long transcript has thousands of parts.
      if (part.getAttribute("aria-selected") !== String(holds)) part.setAttribute("aria-selected", String(holds));
      if (part.classList.contains("seen") !== seen) part.classList.toggle("seen", seen);
      if (!holds) return;
      const lock = header.lock && header.lock.position === position ? header.lock : null;
      if (lock && lock.token !== undefined) { this.fill(k, lock); this.marked = k; }
      const box = this.words;
      if (part.offsetTop < box.scrollTop || part.offsetTop + part.offsetHeight > box.scrollTop + box.clientHeight)
        box.scrollTop = part.offsetTop - box.clientHeight / 3;
    });
  }

  // Sizes, all in CSS pixels.
  layout(isResize) {
    const { header } = this;
    if (!header || (isResize && this.pane.clientWidth === this.shown)) return;
    const n = header.first.length, rows = header.rows.length, width = this.pane.clientWidth;
    if (!width) return;
    const room = width - SIDE - 2;
    this.cellWidth = header.texts ? Math.max(46, room / n) : room / n;
    this.cellWidth = Math.min(this.cellWidth, 120);
    this.cellHeight = header.texts ? Math.max(20, Math.min(30, Math.floor(200 / rows))) : Math.max(6, Math.min(30, Math.floor(420 / rows)));
    this.shown = width;
    this.tall = Math.min(558, HEAD + rows * this.cellHeight + FOOT);
    this.spacer.style.width = `${Math.max(width - 2, SIDE + n * this.cellWidth)}px`;
    this.spacer.style.height = `${HEAD + rows * this.cellHeight + FOOT}px`;
    this.words.style.maxHeight = `${Math.max(240, Math.min(560, HEAD + rows * this.cellHeight + FOOT + 2))}px`;
    this.paint();
  }

  // The background of the page.
  page() {
    return getComputedStyle(this.frame).getPropertyValue("--st-background-color").trim() || "#ffffff";
  }

  paint() {
    const style = getComputedStyle(this.frame);
    this.ink = style.color;
    const page = this.ground = this.page();
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = page;
    probe.fillRect(0, 0, 1, 1);
    this.dark = luminance([...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)]) < 0.4;
    const stops = this.header.diverging ? (this.dark ? DARK_SIDES : LIGHT_SIDES) : (this.dark ? DARK : LIGHT);
    this.colours = Array.from({ length: 255 }, (_, k) => mix(stops, k / 254));
    const legend = this.legend.getContext("2d");
    for (let x = 0; x < 140; x++) {
      legend.fillStyle = `rgb(${this.colours[Math.round(x / 139 * 254)]})`;
      legend.fillRect(x, 0, 1, 10);
    }
    this.picture();
    this.minimap();
    this.draw();
  }

  // One pixel for each cell: drawn at once, scaled, where cells have no text.
  picture() {
    const { header } = this, n = header.first.length, rows = header.rows.length;
    this.image = null;
    if (header.texts || !n || !rows) return;
    const canvas = document.createElement("canvas");
    canvas.width = n;
    canvas.height = rows;
    const pen = canvas.getContext("2d"), pixels = pen.createImageData(n, rows), shade = this.dark ? 255 : 0;
    for (let k = 0; k < n * rows; k++) {
      const byte = this.values[k];
      pixels.data.set(byte === NO_VALUE ? [shade, shade, shade, 11] : [...this.colours[byte], 255], 4 * k);
    }
    pen.putImageData(pixels, 0, 0);
    this.image = canvas;
  }

  context(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    const w = Math.round(width * scale), h = Math.round(height * scale);
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    return context;
  }

  draw() {
    const { header } = this;
    if (!header || !this.cellWidth) return;
    const n = header.first.length, rows = header.rows.length, left = this.pane.scrollLeft, top = this.pane.scrollTop;
    const width = this.shown - 2, height = this.tall, w = this.cellWidth, h = this.cellHeight;
    const pen = this.context(this.cells, width, height), font = "12px " + getComputedStyle(this.frame).fontFamily;
    const from = Math.max(0, Math.floor(left / w)), to = Math.min(n, Math.ceil((left + width - SIDE) / w) + 1);
    pen.font = font;
    pen.textBaseline = "middle";
    pen.save();
    pen.beginPath();
    pen.rect(SIDE, HEAD, width - SIDE, height - HEAD);
    pen.clip();
    if (this.image) pen.drawImage(this.image, SIDE - left, HEAD - top, n * w, rows * h);
    const isPicture = this.image && w <= 6; // wider cells have lines where there is no value
    for (let row = Math.max(0, Math.floor((top - HEAD) / h)); row < rows && !isPicture; row++) {
      const y = HEAD + row * h - top;
      if (y > height) break;
      for (let column = from; column < to; column++) this.cell(pen, row, column, SIDE + column * w - left, y, w, h);
    }
    this.feet(pen, from, to, left, HEAD + rows * h - top);
    this.frameLock(pen, left, top);
    pen.restore();
    this.heads(pen, from, to, left, width);
    this.sides(pen, rows, top, height);
  }

  cell(pen, row, column, x, y, w, h) {
    const { header } = this, byte = this.values[row * header.first.length + column], gap = w > 6 ? 0.5 : 0;
    if (this.image && byte !== NO_VALUE) return;
    if (byte === NO_VALUE) {
      // Where there is no value, a line crosses the cell, so that it does not look like a small one.
      pen.fillStyle = this.dark ? "rgba(255,255,255,.05)" : "rgba(0,0,0,.04)";
      if (!this.image) pen.fillRect(x, y, w + 0.5 - gap, h - gap);
      if (w > 6) {
        pen.strokeStyle = this.dark ? "rgba(255,255,255,.22)" : "rgba(0,0,0,.22)";
        pen.lineWidth = 1;
        pen.beginPath();
        pen.moveTo(x + 2, y + h - 3);
        pen.lineTo(x + Math.min(w - 2, h), y + 2);
        pen.stroke();
      }
      return;
    }
    const colour = this.colours[byte];
    pen.fillStyle = `rgb(${colour})`;
    pen.fillRect(x, y, w + 0.5 - gap, h - gap);
    const text = header.texts && header.texts[row * header.first.length + column];
    if (!text) return;
    pen.fillStyle = luminance(colour) > 0.3 ? "#111" : "#fff";
    pen.textAlign = "center";
    pen.fillText(this.fit(pen, text, w - 4), x + w / 2, y + h / 2 + 0.5);
  }

  fit(pen, text, width) {
    if (pen.measureText(text).width <= width) return text;
    let letters = [...text];
    while (letters.length > 1 && pen.measureText(letters.join("") + "…").width > width) letters = letters.slice(0, -1);
    return letters.join("") + "…";
  }

  heads(pen, from, to, left, width) {
    const { header } = this, w = this.cellWidth;
    pen.save();
    pen.beginPath();
    pen.rect(SIDE, 0, width - SIDE, HEAD);
    pen.clip();
    pen.fillStyle = this.ground;
    pen.fillRect(SIDE, 0, width - SIDE, HEAD);
    pen.fillStyle = this.ink;
    pen.textAlign = "center";
    const every = Math.max(1, Math.ceil(44 / w));
    for (let column = from - (from % every); column < to; column += every)
      pen.fillText(this.fit(pen, header.token[column] ?? "", w * every - 4), SIDE + column * w - left + (w * every) / 2, HEAD / 2);
    pen.restore();
  }

  feet(pen, from, to, left, y) {
    const { header } = this, w = this.cellWidth, every = Math.max(1, Math.ceil(52 / w));
    pen.fillStyle = this.ink;
    pen.globalAlpha = 0.85;
    pen.textAlign = "center";
    for (let column = from - (from % every); column < to; column += every)
      if (column >= from) pen.fillText(String(header.first[column]), SIDE + column * w - left + w / 2, y + FOOT / 2 + 1);
    pen.globalAlpha = 1;
  }

  sides(pen, rows, top, height) {
    const { header } = this, h = this.cellHeight, every = Math.max(1, Math.ceil(13 / h));
    pen.fillStyle = this.ground;
    pen.fillRect(0, 0, SIDE, height);
    pen.fillStyle = this.ink;
    pen.textAlign = "right";
    for (let row = 0; row < rows; row += every) {
      const y = HEAD + row * h - top + h / 2;
      if (y > HEAD) pen.fillText(this.fit(pen, header.labels[row], SIDE - 8), SIDE - 6, y);
    }
  }

  frameLock(pen, left, top) {
    if (!this.lock) return;
    const x = SIDE + this.lock.column * this.cellWidth - left, y = HEAD + this.lock.row * this.cellHeight - top;
    const w = Math.max(this.cellWidth, 4), h = this.cellHeight;
    pen.lineWidth = 4;
    pen.strokeStyle = this.dark ? "#000" : "#fff";
    pen.strokeRect(x - 1, y - 1, w + 2, h + 2);
    pen.lineWidth = 2;
    pen.strokeStyle = "#D55E00";
    pen.strokeRect(x - 1, y - 1, w + 2, h + 2);
  }

  minimap() {
    const { header } = this, width = this.frame.clientWidth, pen = this.context(this.map, width, 20);
    const x = (position) => position / header.total * width;
    header.segments.forEach((segment, k) => {
      pen.globalAlpha = k % 2 ? 0.85 : 0.55;
      pen.fillStyle = CHANNELS[segment.channel] || "#8a8a8a";
      pen.fillRect(x(segment.start), 5, Math.max(0.5, x(segment.stop) - x(segment.start)), 10);
    });
    pen.globalAlpha = 1;
    pen.strokeStyle = this.ink;
    pen.lineWidth = 2;
    pen.strokeRect(x(header.start) + 1, 1, Math.max(3, x(header.stop) - x(header.start) - 2), 18);
    const position = this.position();
    if (position !== null) {
      pen.fillStyle = "#D55E00";
      pen.fillRect(x(position) - 1, 0, 3, 20);
    }
  }

  format(value) {
    return Number.isInteger(value) ? String(value) : Number(value).toPrecision(3);
  }

  value(row, column) {
    const byte = this.values[row * this.header.first.length + column], { low, high } = this.header;
    return byte === NO_VALUE ? null : low + byte / 254 * (high - low);
  }

  position() {
    if (!this.lock || !this.header) return null;
    const { header } = this;
    if (header.lock && header.lock.row === this.lock.row && header.lock.column === this.lock.column) return header.lock.position;
    return header.first[this.lock.column] ?? null;
  }

  describe(row, column) {
    const { header } = this, value = this.value(row, column), last = header.first[column] + header.factor - 1;
    const where = header.factor > 1 ? `positions ${header.first[column]} to ${Math.min(last, header.total - 1)}` : `position ${header.first[column]}`;
    const text = header.texts && header.texts[row * header.first.length + column];
    return `${header.labels[row]}, ${where}, token ${header.token[column]}, ${header.place[column]}: ` +
      (value === null ? "no value" : `${this.format(value)} ${header.unit}`) + (text ? `, reads ${text}` : "");
  }

  say() {
    this.live.textContent = this.lock ? "Locked: " + this.describe(this.lock.row, this.lock.column) : "No cell is locked. Click one, or use the arrow keys.";
  }

  hover(event) {
    const at = this.at(event);
    this.cells.title = at ? this.describe(at.row, at.column) : "";
  }

  at(event) {
    const box = this.cells.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const column = Math.floor((x - SIDE + this.pane.scrollLeft) / this.cellWidth);
    const row = Math.floor((y - HEAD + this.pane.scrollTop) / this.cellHeight);
    const inside = x >= SIDE && y >= HEAD && column < this.header.first.length && row < this.header.rows.length;
    return inside ? { row, column } : null;
  }

  click(event) {
    const at = this.at(event);
    if (at) this.setLock(at.row, at.column, 0); // a click is not held down
  }

  setLock(row, column, wait = SEND_MS) {
    const { header } = this;
    this.lock = { row: Math.max(0, Math.min(header.rows.length - 1, row)), column: Math.max(0, Math.min(header.first.length - 1, column)) };
    this.reveal();
    this.draw();
    this.minimap();
    this.say();
    clearTimeout(this.sending);
    // A key that is held down moves many cells; the page is asked once it rests.
    this.sending = setTimeout(() => {
      this.sending = null;
      if (this.lock) this.send({ kind: "lock", view: header.view, row: this.lock.row, column: this.lock.column });
    }, wait);
  }

  reveal() {
    const x = this.lock.column * this.cellWidth, y = this.lock.row * this.cellHeight, room = this.shown - SIDE - 2;
    if (x < this.pane.scrollLeft) this.pane.scrollLeft = x;
    if (x + this.cellWidth > this.pane.scrollLeft + room) this.pane.scrollLeft = x + this.cellWidth - room;
    if (y < this.pane.scrollTop) this.pane.scrollTop = y;
    if (y + this.cellHeight + HEAD > this.pane.scrollTop + this.tall) this.pane.scrollTop = y + this.cellHeight + HEAD - this.tall;
  }

  zoom(by) {
    const names = this.header.zooms.map((zoom) => zoom.name), k = names.indexOf(this.header.zoom) + by;
    if (names[k]) this.send({ kind: "zoom", zoom: names[k], at: this.position() });
  }

  shift(by) {
    if (by < 0 ? this.header.start > 0 : this.header.stop < this.header.total) this.send({ kind: "shift", by });
  }

  jump(event) {
    const share = (event.clientX - this.map.getBoundingClientRect().left) / this.map.clientWidth;
    this.send({ kind: "start", at: Math.floor(share * this.header.total) });
  }

  choose(part) {
    if (!part) return;
    this.cursor = Number(part.dataset.k);
    const segment = this.header.segments[this.cursor];
    this.words.setAttribute("aria-activedescendant", part.id);
    const column = this.header.first.findLastIndex((first) => first < segment.stop);
    const isShown = segment.start < this.header.stop && segment.stop > this.header.start && column >= 0;
    if (isShown) this.setLock(this.lock ? this.lock.row : 0, column, 0);
    else this.send({ kind: "start", at: segment.start, stop: segment.stop });
  }

  wordKey(event) {
    const parts = this.words.children, by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) {
      parts[this.cursor]?.classList.remove("cursor");
      this.cursor = Math.max(0, Math.min(parts.length - 1, this.cursor + by));
      const part = parts[this.cursor];
      part.classList.add("cursor");
      part.scrollIntoView({ block: "nearest" });
      this.words.setAttribute("aria-activedescendant", part.id);
    } else if (event.key === "Enter") this.choose(parts[this.cursor]);
    else return;
    event.preventDefault();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.header.rows.length) return;
    const { row, column } = this.lock || { row: 0, column: -1 }, last = this.header.first.length - 1;
    const moves = { ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], Home: [row, 0], End: [row, last] };
    const move = moves[event.key];
    if (move) {
      if (this.lock && event.key === "ArrowRight" && column === last && this.header.stop < this.header.total) this.shift(1);
      else if (this.lock && event.key === "ArrowLeft" && column === 0 && this.header.start > 0) this.shift(-1);
      else this.lock || event.key === "Home" || event.key === "End" ? this.setLock(...move) : this.setLock(0, 0);
    } else if (event.key === "Enter") this.lock ? this.zoom(1) : this.setLock(0, 0);
    else if (event.key === "Escape") this.unlock();
    else if (event.key === "+" || event.key === "=") this.zoom(1);
    else if (event.key === "-") this.zoom(-1);
    else if (event.key === "PageUp") this.shift(-1);
    else if (event.key === "PageDown") this.shift(1);
    else if (event.key === " ") this.toggle();
    else if (event.key === "?") this.showKeys();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  unlock() {
    if (!this.lock) return;
    this.stop();
    clearTimeout(this.sending);
    this.sending = null;
    this.lock = null;
    this.draw();
    this.minimap();
    this.say();
    this.send({ kind: "unlock" });
  }

  toggle() {
    if (this.playing) return this.stop();
    this.play.textContent = "Stop";
    this.play.setAttribute("aria-pressed", "true");
    if (!this.lock) this.setLock(0, 0);
    this.playing = setInterval(() => {
      if (!this.lock || this.lock.column >= this.header.first.length - 1) return this.stop();
      this.setLock(this.lock.row, this.lock.column + 1);
    }, PLAY_MS);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = null;
    this.play.textContent = "Play";
    this.play.setAttribute("aria-pressed", "false");
  }

  showKeys() {
    this.keys.hidden = !this.keys.hidden;
    this.help.setAttribute("aria-expanded", String(!this.keys.hidden));
  }
}
