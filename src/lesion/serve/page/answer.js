// One answer, drawn. All that comes from a file or the server becomes text nodes, never HTML.

import { DIAGNOSES, LIMITS, flagWords, has, isNumber, ofHundred, percent, ruleOf } from "./words.js";

export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.flat().filter(Boolean));
  return element;
}

export function tell(job, title, ...rest) {
  const heading = make("h3", null, make("b", null, title), make("bdi", { class: "name" }, job.name));
  job.body.replaceChildren(heading, ...rest.flat().filter(Boolean));
}

export function show(job, found, model) {
  const p = found.class_probabilities.malignant;
  const close = model && Math.abs(p - model.threshold) < 0.01;
  const shown = percent(p, close ? 1 : 0);
  const verdict = { malignant: "Read as malignant", benign: "Read as benign" }[found.decision];
  const title = verdict || "Refer: a person should look";
  job.article.classList.add(verdict ? found.decision : "refer");
  const isUsual = found.flags.every((flag) => flag === "uncertain");
  const figures = [
    make("p", null, make("strong", null, `Probability of malignant: ${shown}. `), compare(found, p, model)),
    drawScale(p, shown, model),
    make("p", null, interpret(isUsual, p), " ", LIMITS[found.prediction]),
    model && fold("What the operating point means", job.alone, explainPoint(model)),
    drawDiagnoses(found.diagnosis_probabilities, model),
    make("p", { class: "soft" }, `Answered by ${found.model}.`),
  ];
  tell(
    job,
    title,
    verdict ? null : make("p", null, "The model should not be asked alone about this image:"),
    verdict ? null : drawReasons(found.flags),
    isUsual ? figures : fold("What the model would say all the same", false, ...figures),
  );
  if (found.explanation) addHeat(job, found.explanation);
  const why = found.flags.map((flag) => flagWords(flag)).join(" ");
  return `${title}. ${why} Probability of malignant: ${shown}.`;
}

function fold(title, open, ...content) {
  return make("details", open ? { open: "" } : null, make("summary", null, title), ...content);
}

function drawReasons(flags) {
  return make("ul", { class: "reasons" }, flags.map((flag) => make("li", null, flagWords(flag))));
}

function compare(found, p, model) {
  if (!model) return "Another model than the one below answered, so its operating point is not shown.";
  const side = p >= model.threshold ? "at or above" : "below";
  const start = found.decision === "refer" ? `By itself, the model would say ${found.prediction}: this is` : "This is";
  return `${start} ${side} the operating point, ${percent(model.threshold, 1)}.`;
}

function interpret(isUsual, p) {
  if (!isUsual) return "Its figures hold for images like those that it learned from. They may not hold for this one.";
  return (
    `Of 100 images with this probability, ${ofHundred(p)} are malignant, if they are like those that the model was ` +
    "validated on. Among other patients it may be more or fewer."
  );
}

function explainPoint(model) {
  const { sensitivity, specificity } = model.provenance?.validation || {};
  const parts = [`Malignant is said from ${percent(model.threshold, 1)} on: ${ruleOf(model)}.`];
  if (isNumber(sensitivity) && isNumber(specificity)) {
    parts.push(
      `On the validation images, ${ofHundred(sensitivity)} of 100 malignant ones were read as malignant ` +
        `(sensitivity ${percent(sensitivity, 1)}), and ${ofHundred(specificity)} of 100 benign ones as benign ` +
        `(specificity ${percent(specificity, 1)}).`,
    );
  }
  return make("p", null, parts.join(" "));
}

function drawScale(p, shown, model) {
  const words = model ? `, operating point ${percent(model.threshold, 1)}` : "";
  const fill = make("i");
  fill.style.width = `${100 * p}%`;
  const scale = make(
    "div",
    { class: "scale", role: "img", "aria-label": `Probability of malignant ${shown}${words}, on a scale to 100 %` },
    make("span", { class: "track" }, fill),
  );
  if (model) {
    const tick = make("span", { class: "tick" });
    const mark = make("span", { class: "mark" }, `operating point ${percent(model.threshold, 1)}`);
    tick.style.left = `${100 * model.threshold}%`;
    if (model.threshold < 0.5) mark.style.left = tick.style.left;
    else mark.style.right = `${100 - 100 * model.threshold}%`;
    scale.append(tick, mark);
  }
  return scale;
}

function drawDiagnoses(probabilities, model) {
  if (!probabilities) return null;
  const rows = Object.entries(probabilities)
    .sort((one, other) => other[1] - one[1])
    .map(([code, p]) => {
      const bad = model?.malignant.includes(code);
      const fill = make("i", { class: model ? (bad ? "bad" : "good") : "" });
      fill.style.width = `${100 * p}%`;
      const name = has(DIAGNOSES, code) ? `${DIAGNOSES[code]} ` : "";
      const kind = make("small", null, model ? `${code}, ${bad ? "malignant" : "benign"}` : code);
      return make(
        "tr",
        null,
        make("th", { scope: "row" }, name, kind),
        make("td", { "aria-hidden": "true" }, make("span", { class: "bar" }, fill)),
        make("td", { class: "number" }, percent(p, 0, "<", ">")),
      );
    });
  return make("table", null, make("caption", null, "Probability of each diagnosis"), make("tbody", null, rows));
}

function addHeat(job, explanation) {
  if (!/^data:image\/png;base64,/.test(explanation.overlay)) return;
  const heat = make("img", { class: "heat", alt: "Heat map over the centred square that the model saw", hidden: "" });
  heat.src = explanation.overlay;
  const toggle = make("input", { type: "checkbox" });
  const key = (kind, words) => [make("i", { class: `key ${kind}` }), make("span", null, words)];
  const caption = make(
    "figcaption",
    { hidden: "" },
    make("p", null, key("for", "towards malignant"), key("against", "towards benign")),
    make(
      "p",
      { class: "soft" },
      "Where the network found what moved its answer; not why, and not the border of the lesion. Strengths of two " +
        "images cannot be compared. It did not see the dark margins.",
    ),
  );
  toggle.onchange = () => {
    heat.hidden = caption.hidden = !toggle.checked;
  };
  job.figure.firstChild.append(heat);
  job.figure.append(make("label", { class: "switch" }, toggle, "Show heat map"), caption);
}

