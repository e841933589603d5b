/** One slider a dimension: the hard range is its limits, the recommended range a band, and the number beside it the truth. */

import { element, signed } from "./dom.js";

const STEP = 0.1;

/** The multiples of the step within the range, so that 0 can be reached. */
export function limits([low, high]) {
  const steps = 1 / STEP;
  return [Math.ceil(low * steps - 1e-9) / steps, Math.floor(high * steps + 1e-9) / steps];
}

/** A strength in words, for those who do not see the band. */
export function describe(strength, [low, high]) {
  const beyond = strength < low || strength > high ? ", beyond the recommended range" : "";
  return `${signed(strength)} standard deviations${beyond}`;
}

function scale([low, high], [recommendedLow, recommendedHigh]) {
  const share = (value) => String((Math.min(Math.max(value, low), high) - low) / (high - low));
  const band = element("div", { class: "recommended" });
  band.style.setProperty("--from", share(recommendedLow));
  band.style.setProperty("--to", share(recommendedHigh));
  const values = [...new Set([low, recommendedLow, 0, recommendedHigh, high])];
  const ticks = values.map((value) => {
    const tick = element("span", {}, signed(value));
    tick.style.setProperty("--at", share(value));
    return tick;
  });
  return [band, element("div", { class: "ticks", "aria-hidden": "true" }, ...ticks)];
}

/** A share; the interval of a fall may reach below none. */
const percent = (share) => `${Number((Math.min(Math.max(share, 0), 1) * 100).toFixed(1))}\u00a0%`;

/** The effect on texts that nothing was chosen on, in words: of answers their share before and after, else the shift. */
function effect({ measure, unsteered, shift, shift_low: low, shift_high: high, largest_random: random }) {
  if (unsteered === null) {
    return `${measure} by ${signed(shift)} nats [${signed(low)}, ${signed(high)}], a random direction at most ${signed(random)}`;
  }
  const interval = `[${percent(unsteered - high)}, ${percent(unsteered - low)}]`;
  return `${measure} ${percent(unsteered)} → ${percent(unsteered - shift)} ${interval}, a random direction at best ${percent(unsteered - random)}`;
}

/** Whether a vector works: on what is written where an evaluation judged that, else on what it was calibrated by. */
export function works(vector) {
  return vector.text_verdict?.works ?? vector.calibration?.tested?.works;
}

/** The verdict of text in the words of a calibration's test. */
function judged({ behaviour, change, change_low, change_high, best_random, ...rest }) {
  return { ...rest, measure: behaviour, shift: -change, shift_low: -change_high, shift_high: -change_low, largest_random: -best_random };
}

/** Whether a vector works, with its effect and cost, as a line; `null` where that was not recorded. */
export function verdict(vector) {
  const tested = vector?.text_verdict ? judged(vector.text_verdict) : vector?.calibration?.tested;
  if (!tested) return null;
  const cost = `perplexity ${tested.perplexity_ratio.toFixed(2)}x`;
  const measured = `At ${signed(tested.strength)} SD: ${effect(tested)}; ${cost} (n = ${tested.n})`;
  return element("p", { class: `hint verdict ${tested.works ? "works" : "fails"}` },
    element("strong", {}, tested.works ? "✓ Works." : "✗ Does not work, so it opens at 0."), ` ${measured}`,
  );
}

/** The row of one dimension: its node, and its strength to read and to set. */
export function strengthControl({ dimension, meaning, trustworthy, untrustworthy, recommended, hard, calibrated, vector }) {
  const [low, high] = limits(hard);
  const bounds = { min: low, max: high, value: 0 };
  const id = `strength-${dimension}`;
  const range = element("input", { type: "range", step: STEP, id, ...bounds, "aria-describedby": `${id}-hint` });
  // Without limits: beyond them the service refuses, clamps or warns, as it is asked to.
  const number = element("input", { type: "number", step: "any", required: true, value: 0, "aria-label": `${dimension}, strength` });
  const reset = element("button", { type: "button", class: "quiet", "aria-label": `Reset ${dimension} to 0` }, "reset");
  const note = calibrated ? "" : "Range not calibrated.";
  const hint = element("p", { class: "hint", id: `${id}-hint` });
  const [band, ticks] = scale([low, high], recommended);

  const show = () => {
    const strength = number.valueAsNumber || 0;
    range.value = strength;
    range.setAttribute("aria-valuetext", describe(strength, recommended));
    const beyond = strength < recommended[0] || strength > recommended[1];
    hint.classList.toggle("warning", beyond);
    const words = strength < hard[0] || strength > hard[1] ? "▲ Beyond the hard range: see “If too strong”" : "▲ Beyond the recommended range";
    hint.textContent = beyond ? words : [meaning, note].filter(Boolean).join(". ");
    reset.disabled = strength === 0;
  };
  const set = (strength) => {
    number.value = strength;
    show();
  };
  range.addEventListener("input", () => set(range.value));
  number.addEventListener("input", show);
  reset.addEventListener("click", () => {
    set(0);
    range.focus();
    range.dispatchEvent(new Event("change", { bubbles: true }));
  });
  show();

  const node = element("div", { class: "dimension" },
    element("label", { for: id }, dimension),
    element("span", { class: "value" }, number, element("abbr", { title: "standard deviations" }, "SD"), reset),
    hint,
    element("div", { class: "slider" }, band, range, ticks),
    element("p", { class: "ends hint" },
      element("span", {}, `← ${untrustworthy}`), element("span", {}, `${trustworthy} →`),
    ),
    ...[verdict(vector)].filter(Boolean),
  );
  return { dimension, node, set, strength: () => number.valueAsNumber };
}

/** The dimensions that no live vector steers, folded, with the command that makes some. */
export function withoutVectors(model, dimensions) {
  const names = dimensions.map(({ dimension }) => dimension);
  return element("details", { class: "missing" },
    element("summary", {}, `Without a live vector: ${names.join(", ")}`),
    element("dl", {}, ...dimensions.flatMap(({ dimension, meaning }) => [element("dt", {}, dimension), element("dd", {}, meaning)])),
    element("p", { class: "hint" }, "This command makes vectors. Those that work are live at once:"),
    element("pre", { tabindex: "0" }, `mlflow run . -e calibrate --env-manager local -P model=${model} -P dimensions=${names.join(",")}`),
  );
}
