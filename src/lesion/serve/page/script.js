import { make, show, tell } from "./answer.js";
import {
  BY_STATUS, DIAGNOSES, DRIFT, FIGURES, QUANTITIES, REFUSALS, has, isNumber, megabytes, percent, ruleOf, sentence,
} from "./words.js";

const KEY = "lesion.token";
const TRIES = 4; // for one image while the server is busy
const PATIENCE_S = 60; // for an answer, and at most until asking again unasked
const $ = (id) => document.getElementById(id);
const maxBytes = Number(document.documentElement.dataset.maxBytes);
const queue = [];
let busy = false;
let card = null; // what GET v1/model says

class Problem extends Error {
  constructor(status, body = {}, retry = null) {
    super(body.detail || "");
    Object.assign(this, { status, code: body.code, hint: body.hint, request: body.request_id, retry });
  }

  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  get words() {
    const code = has(REFUSALS, this.code) ? this.code : BY_STATUS[this.status];
    const detail = sentence(code !== "not_an_image" && this.message, this.hint);
    if (code) return [REFUSALS[code], this.isTemporary ? "" : detail];
    if (this.status === 0) return ["The server cannot be reached.", "Check the connection, then ask again."];
    if (this.status < 500) return ["The server refused this image.", detail];
    return ["The server failed.", `Tell whoever runs it: request ${this.request || "without id"}.`];
  }
}

async function ask(path, options = {}, token = sessionStorage.getItem(KEY)) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const signal = AbortSignal.timeout(PATIENCE_S * 1000);
  let response, body;
  try {
    response = await fetch(path, { ...options, headers, signal, redirect: "error" });
    body = await response.json().catch(() => ({}));
  } catch {
    throw new Problem(0);
  }
  if (response.ok) return body;
  throw new Problem(response.status, body, Number(response.headers.get("retry-after")) || null);
}

function say(text) {
  $("live").textContent = text;
}

// --- images come in

function take(files) {
  const jobs = [...files].map((file) => makeJob(file, files.length === 1));
  if (!jobs.length) return;
  $("results").hidden = false;
  $("cards").prepend(...jobs.map((job) => job.article));
  jobs[0].article.scrollIntoView({ block: "nearest" });
  say(jobs.length === 1 ? "One image taken in." : `${jobs.length} images taken in.`);
  queue.push(...jobs);
  work();
}

function makeJob(file, alone) {
  const job = { file, alone, tries: 0, name: file.name || "image" };
  const picture = make("img", { alt: `The image ${job.name}` });
  const url = URL.createObjectURL(file);
  const frame = make("div", { class: "frame" }, picture);
  job.figure = make("figure", null, frame);
  job.body = make("div", null);
  job.article = make("article", { class: "card", "aria-busy": "true", tabindex: "-1" }, job.figure, job.body);
  picture.onload = () => {
    URL.revokeObjectURL(url);
    const ratio = picture.naturalWidth / picture.naturalHeight;
    frame.style.setProperty("--ratio", ratio);
    frame.classList.toggle("high", ratio < 1);
  };
  picture.onerror = () => {
    URL.revokeObjectURL(url);
    job.figure.remove();
    job.article.classList.add("bare");
  };
  picture.src = url;
  tell(job, "Waiting");
  return job;
}

// --- they are asked about one after the other

async function work() {
  if (busy) return;
  busy = true;
  try {
    while (queue.length && $("access").hidden) {
      const job = queue.shift();
      if (job.article.isConnected) await answer(job);
    }
  } finally {
    busy = false;
  }
}

async function answer(job) {
  tell(job, "Asking the model…");
  try {
    // The bytes alone: a file's name may be a patient's. One request: answer and map are of one model.
    const body = await read(job.file);
    const options = { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } };
    const found = await ask("v1/predict?explain=1", options);
    if (found.model !== card?.model) await loadCard().catch(() => {});
    finish(job, show(job, found, found.model === card?.model ? card : null));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    await complain(job, problem);
  }
}

async function read(file) {
  if (file.size > maxBytes) {
    const detail = `it has ${megabytes(file.size)}, at most ${megabytes(maxBytes)} are taken`;
    throw new Problem(413, { detail, hint: "compress or downscale it" });
  }
  try {
    return await file.arrayBuffer();
  } catch {
    throw new Problem(422, { code: "image_error", detail: "it cannot be read from this device" });
  }
}

async function complain(job, problem) {
  if (problem.status === 401) {
    tell(job, "Waiting for the token");
    queue.unshift(job);
    askForToken();
    return;
  }
  job.tries += 1;
  const [title, detail] = problem.words;
  if (problem.retry && problem.retry <= PATIENCE_S && job.tries < TRIES) {
    say(`${title} It will be asked again.`);
    await countDown(job, title, problem.retry);
    queue.unshift(job);
    return;
  }
  refuse(job, title, detail, problem.isTemporary);
}

async function countDown(job, title, seconds) {
  for (let left = Math.ceil(seconds); left > 0 && job.article.isConnected; left -= 1) {
    tell(job, title, make("p", null, `Asking again in ${left} s.`));
    await new Promise((done) => setTimeout(done, 1000));
  }
}

function refuse(job, title, detail, again) {
  const button = make("button", { type: "button", class: "plain" }, "Ask again");
  button.onclick = () => {
    job.tries = 0;
    queue.push(job);
    tell(job, "Waiting");
    job.article.focus();
    work();
  };
  tell(job, title, make("p", null, "There is no answer for it. ", detail), again ? button : null);
  finish(job, `${title} ${detail}`);
}

function finish(job, words) {
  job.article.setAttribute("aria-busy", "false");
  say(`${job.name}: ${words}`);
}

// --- the model's card, and what the server saw lately

async function loadCard() {
  card = await ask("v1/model");
  const facts = card.provenance || {};
  const figures = Object.entries(FIGURES).filter(([name]) => isNumber(facts.validation?.[name]));
  const rows = {
    "File, SHA-256": card.digest,
    Classes: card.labels.map((label) => (has(DIAGNOSES, label) ? `${DIAGNOSES[label]} (${label})` : label)).join(", "),
    "Counted as malignant": card.malignant.join(", "),
    "Trained on": facts.data,
    Split: facts.split,
    "Operating point": `malignant from ${percent(card.threshold, 1)} on; ${ruleOf(card)}`,
    "On validation": figures.map(([name, words]) => `${words} ${facts.validation[name].toFixed(3)}`).join(", "),
    "Certainty asked": `the right class is among those that fit for ${percent(card.conformal.coverage)} of lesions`,
    Exported: facts.exported?.slice(0, 10),
    Notice: card.notice,
  };
  $("model").textContent = card.model;
  const told = Object.entries(rows).flatMap(([name, value]) => [
    make("dt", null, name),
    make("dd", null, String(value || "not recorded")),
  ]);
  $("facts").replaceChildren(...told);
  $("about").hidden = $("lately").hidden = false;
}

async function loadDrift() {
  if (!$("lately").open) return;
  try {
    const report = await ask("v1/drift");
    const quantities = Object.entries(report.quantities);
    const head = ["What is compared", "Stability index", "State"].map((name) => make("th", { scope: "col" }, name));
    const rows = quantities.map(([name, each]) =>
      make(
        "tr",
        null,
        make("th", { scope: "row" }, QUANTITIES[name] || name),
        make("td", null, each.status === "too few" ? "–" : each.psi.toFixed(2)),
        make("td", null, each.status),
      ),
    );
    const words = quantities.length ? DRIFT[report.status] : "The model file holds nothing to compare them with.";
    const note = `The latest ${report.images} images (at most ${report.window}). An index of ${report.alert} or more is drift.`;
    const table = make("table", null, make("thead", null, make("tr", null, head)), make("tbody", null, rows));
    $("drift").replaceChildren(make("p", null, words), ...(rows.length ? [table] : []), make("p", { class: "soft" }, note));
  } catch (problem) {
    $("drift").replaceChildren(make("p", null, problem.words?.join(" ") || "It cannot be shown."));
  }
}

// --- the token

function askForToken(error = "") {
  const shown = !$("access").hidden;
  if (!shown && sessionStorage.getItem(KEY)) error = "The token is not accepted any more. Enter a new one.";
  sessionStorage.removeItem(KEY);
  $("forget").hidden = true;
  $("access").hidden = false;
  $("access-error").textContent = error;
  $("token").focus();
}

$("access").onsubmit = async (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  try {
    if (!/^[\x21-\x7e]+$/.test(token)) throw new Problem(401);
    await ask("v1/model", {}, token);
  } catch (problem) {
    return askForToken(problem.status === 401 ? "This token is not known here." : problem.words.join(" "));
  }
  sessionStorage.setItem(KEY, token);
  $("token").value = "";
  $("access").hidden = true;
  $("choose").focus();
  await start();
  return work();
};

$("forget").onclick = () => {
  sessionStorage.removeItem(KEY);
  location.reload();
};

async function start() {
  try {
    await loadCard();
    $("forget").hidden = !sessionStorage.getItem(KEY);
  } catch (problem) {
    if (problem.status === 401) askForToken();
    else say(problem.words?.join(" ") || "The model's card cannot be shown.");
  }
}

// --- what people do

for (const [button, input] of [["choose", "files"], ["photograph", "camera"]]) {
  $(button).onclick = () => $(input).click();
  $(input).onchange = () => {
    take($(input).files);
    $(input).value = "";
  };
}
$("clear").onclick = () => {
  queue.length = 0;
  $("cards").replaceChildren();
  $("results").hidden = true;
  say("All images removed.");
  $("choose").focus();
};
$("lately").ontoggle = loadDrift;
document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(event.dataTransfer.files);
});
start();
