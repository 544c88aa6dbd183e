"use strict";

const at = (id) => document.getElementById(id);
const LEAST = 0.05; // asked of the server; the slider leaves out what is below it
const TRIES = 5; // of a request that finds the server busy
const SIDE = 1600; // longest side on which masks are painted, pixels
let model = null; // what GET /model says
let token = ""; // kept here alone, and gone with the page
let file = null;
let answer = null; // of POST /predict
let hidden = new Set(); // categories that are switched off
let running = null; // aborts the request that runs

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function colour(category) {
  const place = model ? model.categories.findIndex((each) => each.id === category) : category;
  return `hsl(${(211 + 137.5 * Math.max(place, 0)) % 360} 72% 40%)`;
}

const least = () => Math.max(LEAST, model ? model.least_score : 0);
const megabytes = (bytes) => `${+(bytes / 1e6).toPrecision(3)} MB`;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function readModel() {
  let reply;
  try {
    reply = await fetch("/model", { headers: headers() });
  } catch {
    return say("The server does not answer.", true);
  }
  if (reply.status === 401) {
    if (token) say("The server does not know this token.", true);
    at("token").hidden = false;
    at("secret").focus();
    return;
  }
  if (reply.status === 503) {
    say("The model is being loaded …");
    await wait(1000);
    return readModel();
  }
  if (!reply.ok) return say(`The server answered ${reply.status}.`, true);
  model = await reply.json();
  at("token").hidden = true;
  say("");
  at("model").textContent = model.name;
  document.title = `${model.name} · detnet`;
  at("score").min = least();
  const kinds = model.categories.length;
  at("facts").textContent = `${kinds} ${kinds === 1 ? "category" : "categories"} · ${model.runs_as}`;
  const formats = model.formats.map((name) => (name === "WEBP" ? "WebP" : name)).join(", ");
  at("bounds").textContent = `${formats} · up to ${megabytes(model.max_body)} and ` +
    `${Math.round(model.max_pixels / 1e6)} megapixels`;
}

async function send(image) {
  if (model && image.size > model.max_body) {
    return say(`This image has ${megabytes(image.size)}; ${megabytes(model.max_body)} are taken at most.`, true);
  }
  if (running) running.abort(); // which frees its place in the queue
  const control = (running = new AbortController());
  file = image;
  answer = null;
  hidden = new Set();
  const address = URL.createObjectURL(image);
  const seen = new Promise((done) => {
    at("image").onload = at("image").onerror = (event) => done(event.type === "load");
  });
  at("image").src = address;
  seen.then((loaded) => {
    URL.revokeObjectURL(address);
    at("frame").hidden = !loaded;
    at("frame").classList.toggle("small-image", at("image").naturalWidth < 700);
    if (loaded && (answer || running === control)) reveal(true); // not where it was refused before
    show();
  });
  document.body.classList.add("busy");
  say("Looking …");
  const start = performance.now();
  try {
    const found = await ask(image, control.signal);
    answer = found;
    at("took").textContent = `found in ${((performance.now() - start) / 1000).toFixed(2)} s`;
    say("");
    show();
    if (!(await seen)) {
      reveal(true);
      say("This browser cannot show the image; what is in it is listed.", true);
    }
  } catch (error) {
    if (control.signal.aborted) return;
    say(error.message, true);
    back();
  } finally {
    if (running === control) {
      running = null;
      document.body.classList.remove("busy");
    }
  }
}

async function ask(image, signal) {
  const form = new FormData();
  form.append("image", image);
  for (let tried = 1; ; tried++) {
    let reply;
    try {
      reply = await fetch(`/predict?score_threshold=${least()}`, {
        method: "POST", body: form, headers: headers(), signal,
      });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Error("The server did not answer.");
    }
    const content = await reply.json().catch(() => ({ reason: `the server answered ${reply.status}` }));
    if (reply.ok) return content;
    if (reply.status === 401) at("token").hidden = false;
    if (reply.status !== 503 || tried === TRIES) {
      const reason = String(content.reason);
      throw new Error(`${reason[0].toUpperCase()}${reason.slice(1)}.`);
    }
    const seconds = Number(reply.headers.get("Retry-After")) || 1;
    say(`The server is busy; trying again in ${seconds} s …`);
    await wait(1000 * seconds);
    if (signal.aborted) throw new Error("aborted");
    say("Looking …");
  }
}

function reveal(result) {
  at("drop").hidden = result;
  at("result").hidden = !result;
}

function back() {
  reveal(false);
  at("file").value = "";
}

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function shown() {
  const least = Number(at("score").value);
  return answer.results.filter((each) => each.score >= least);
}

function show() {
  at("shown").textContent = Number(at("score").value).toFixed(2);
  for (const id of ["boxes", "labels", "list", "categories"]) at(id).replaceChildren();
  at("masks").width = 1; // which wipes it
  if (!answer) {
    at("count").textContent = "…";
    at("none").hidden = true;
    return;
  }
  const sure = shown();
  const seen = sure.filter((each) => !hidden.has(each.category_id));
  at("count").textContent = seen.length;
  at("noun").textContent = seen.length === 1 ? "object" : "objects";
  at("none").hidden = sure.length > 0;
  showCategories(sure);
  drawBoxes(seen);
  const masks = answer.results.some((each) => each.segmentation);
  at("masks-switch").hidden = !masks;
  if (masks && at("show-masks").checked) drawMasks(seen);
}

function showCategories(sure) {
  const counts = new Map();
  for (const each of sure) counts.set(each.category_id, (counts.get(each.category_id) || 0) + 1);
  const named = [...counts].map(([id, count]) => [id, count, sure.find((each) => each.category_id === id).name]);
  named.sort((a, b) => b[1] - a[1] || a[2].localeCompare(b[2]));
  for (const [id, count, name] of named) {
    const button = element("button", undefined, at("categories"));
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hidden.has(id)));
    button.style.setProperty("--colour", colour(id));
    element("i", undefined, button);
    element("span", name, button);
    element("b", count, button);
    button.onclick = () => {
      if (!hidden.delete(id)) hidden.add(id);
      show();
    };
  }
}

function drawBoxes(seen) {
  const { width, height } = answer.images[0];
  at("boxes").setAttribute("viewBox", `0 0 ${width} ${height}`);
  at("boxes").setAttribute("preserveAspectRatio", "none");
  seen.forEach((each, place) => {
    const [x, y, w, h] = each.bbox;
    const marks = ["under", ""].map((kind) => {
      const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of Object.entries({ x, y, width: w, height: h, rx: 1 })) box.setAttribute(name, value);
      if (kind) box.setAttribute("class", kind);
      else box.setAttribute("stroke", colour(each.category_id).replace("40%)", "52%)"));
      at("boxes").append(box);
      return box;
    });
    const text = `${each.name} ${each.score.toFixed(2)}`;
    if (at("show-labels").checked) {
      const label = element("span", text, at("labels"));
      label.style.setProperty("--colour", colour(each.category_id));
      putLabel(label, [x / width, y / height, (x + w) / width, (y + h) / height]);
      marks.push(label);
    }
    const item = element("li", undefined, at("list"));
    item.style.setProperty("--colour", colour(each.category_id));
    element("i", undefined, item);
    element("span", each.name, item);
    element("em", each.score.toFixed(2), item);
    item.dataset.place = place;
    const others = (dim) => {
      for (const mark of [...at("boxes").children, ...at("labels").children]) {
        mark.classList.toggle("dim", dim && !marks.includes(mark));
      }
    };
    item.onpointerenter = () => others(true);
    item.onpointerleave = () => others(false);
  });
}

/* Puts a label to the first corner of its box where it covers no surer one's and is all in sight. */
function putLabel(label, [x1, y1, x2, y2]) {
  const corners = [[x1, y1, ""], [x1, y1, "below"], [x2, y1, "right"], [x2, y1, "right below"],
    [x1, y2, ""], [x1, y2, "below"], [x2, y2, "right"], [x2, y2, "right below"]];
  const frame = at("labels").getBoundingClientRect();
  const others = [...at("labels").children].filter((each) => each !== label);
  const taken = others.map((each) => each.getBoundingClientRect());
  let best = null;
  for (const [x, y, name] of corners) {
    label.style.left = `${100 * x}%`;
    label.style.top = `${100 * y}%`;
    label.className = name;
    const own = label.getBoundingClientRect();
    const cut = own.left < frame.left - 2 || own.right > frame.right + 2 || own.top < frame.top - 2 ||
      own.bottom > frame.bottom + 2;
    const over = taken.filter((each) => own.left < each.right && own.right > each.left &&
      own.top < each.bottom && own.bottom > each.top).length;
    const cost = over + (cut ? 3 : 0);
    if (best === null || cost < best.cost) best = { cost, x, y, name };
    if (cost === 0) return;
  }
  label.style.left = `${100 * best.x}%`;
  label.style.top = `${100 * best.y}%`;
  label.className = best.name;
}

/* COCO's run lengths: column by column from the top left, outside first. */
function runLengths(counts) {
  const runs = [];
  for (let place = 0; place < counts.length; ) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = counts.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      more = (code & 32) !== 0;
      shift += 5;
      if (!more && code & 16) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

function drawMasks(seen) {
  const { width, height } = answer.images[0];
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = at("masks");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  const inside = new Uint8Array(width * height);
  for (const each of [...seen].reverse()) {
    if (!each.segmentation) continue;
    let start = 0;
    runLengths(each.segmentation.counts).forEach((length, number) => {
      inside.fill(number % 2, start, start + length);
      start += length;
    });
    context.fillStyle = colour(each.category_id).replace("40%)", "52%)");
    const [x, y, w, h] = each.bbox.map((value) => value * scale);
    for (let row = Math.max(0, Math.floor(y) - 1); row < Math.min(canvas.height, y + h + 1); row++) {
      let from = -1;
      const end = Math.min(canvas.width, Math.ceil(x + w) + 1);
      for (let column = Math.max(0, Math.floor(x) - 1); column <= end; column++) {
        const source = Math.floor(column / scale) * height + Math.floor(row / scale);
        const on = column < end && inside[source] === 1;
        if (on && from < 0) from = column;
        if (!on && from >= 0) {
          context.fillRect(from, row, column - from, 1);
          from = -1;
        }
      }
    }
  }
}

function save() {
  const least = { ...answer, results: shown() };
  const address = URL.createObjectURL(new Blob([JSON.stringify(least, null, 1)], { type: "application/json" }));
  const link = element("a");
  link.href = address;
  link.download = `${(file.name || "image").replace(/\.[^.]*$/, "")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function take(files) {
  const image = [...files].find((each) => each.type.startsWith("image/")) || files[0];
  if (image) send(image);
}

at("file").onchange = () => take(at("file").files);
at("score").oninput = show;
at("show-labels").onchange = show;
at("show-masks").onchange = show;
at("another").onclick = () => at("file").click();
at("save").onclick = () => answer && save();
at("token").onsubmit = (event) => {
  event.preventDefault();
  token = at("secret").value.trim();
  readModel();
};
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));
readModel();
