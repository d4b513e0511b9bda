// What the page says, and how it says a number.

export const FLAGS = {
  uncertain: "Uncertain: its probability fits both classes, or neither, at the certainty that is asked of it.",
  unlike_training: "Unlike the images that the model learned from. Is it dermatoscopic, of one lesion in the middle?",
  blurred: "Blurred: less fine detail than the model is used to. Check focus and contact of the lens.",
  noisy: "Noisy, or full of fine detail. Hair, gel bubbles or a high ISO setting may cause it.",
  too_dark: "Too dark. Take it again with more light.",
  too_bright: "Too bright. Take it again with less light or a shorter exposure.",
  low_contrast: "Too little contrast. The lens may be fogged, or no lesion in view.",
  high_contrast: "Too much contrast. Look for glare, black corners or a ruler in the picture.",
};
export const DIAGNOSES = {
  akiec: "actinic keratosis or intraepithelial carcinoma",
  bcc: "basal cell carcinoma",
  bkl: "benign keratosis",
  df: "dermatofibroma",
  mel: "melanoma",
  nv: "melanocytic nevus",
  vasc: "vascular lesion",
};
export const REFUSALS = {
  image_too_large: "This image is too large.",
  not_an_image: "This is not a JPEG or PNG image.",
  image_error: "This image cannot be used.",
  too_many_requests: "You have sent many images in a short time.",
  overloaded: "The server is busy.",
  too_late: "The server is busy: the answer took too long.",
  draining: "The server is about to stop; another may take over.",
};
export const BY_STATUS = { 413: "image_too_large", 415: "not_an_image", 429: "too_many_requests", 503: "overloaded" };
export const FIGURES = {
  auroc: "AUROC", sensitivity: "sensitivity", specificity: "specificity", precision: "positive predictive value",
  negative_predictive_value: "negative predictive value", calibration_error: "calibration error",
};
export const DRIFT = {
  "too few": "Too few images yet to tell whether they differ from those that the model was validated on.",
  steady: "They are distributed like those that the model was validated on.",
  drifted: "They differ from those that the model was validated on. Its probabilities may not hold here.",
};
export const LIMITS = {
  benign: "Benign is not an all-clear: some malignant lesions are read as benign.",
  malignant: "Malignant is not a diagnosis: benign lesions are read as malignant, too.",
};
export const QUANTITIES = { malignant: "probability of malignant", outlier: "distance from training" };

export const sentence = (...parts) =>
  parts.filter(Boolean).map((part) => `${part[0].toUpperCase()}${part.slice(1)}.`).join(" ");
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const has = (table, key) => Object.hasOwn(table, key);

export function percent(share, digits = 0, below = "less than", above = "more than") {
  const least = 10 ** -digits;
  const value = 100 * share;
  if (value > 0 && value < least / 2) return `${below} ${least}\u00a0%`;
  if (value < 100 && value > 100 - least / 2) return `${above} ${100 - least}\u00a0%`;
  return `${Number(value.toFixed(digits))}\u00a0%`;
}

export const megabytes = (bytes) => `${Number((bytes / 2 ** 20).toPrecision(3))}\u00a0MiB`;

export function ofHundred(share) {
  if (share > 0 && share < 0.005) return "fewer than 1";
  return share >= 0.995 && share < 1 ? "more than 99" : `about ${Math.round(100 * share)}`;
}

export const flagWords = (flag) => (has(FLAGS, flag) ? FLAGS[flag] : sentence(String(flag).replaceAll("_", " ")));

export function ruleOf(model) {
  const rule = model.provenance?.operating_point;
  if (typeof rule !== "string") return "how this point was chosen is not recorded";
  const asked = /^sensitivity >= ([\d.]+) on validation$/.exec(rule);
  return asked ? `chosen for a sensitivity of at least ${percent(Number(asked[1]), 1)} on validation` : rule;
}
