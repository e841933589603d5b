/** Champions that were calibrated together: how strong they may be at once, in words, as a warning and as a setting. */

import { element, signed } from "./dom.js";

/** The limit that two or more of these vectors share; `null` where there is none. */
export function jointLimit(vectors) {
  const limits = vectors.map((vector) => vector.joint_limit).filter(Boolean);
  return limits.find(({ run_id: run }, place) => limits.slice(place + 1).some((other) => other.run_id === run)) ?? null;
}

/** The strengths at which all were measured, by dimension, of those that are still the vectors that were. */
export function measuredTogether({ strengths, scales, scale, run_id: run }, vectors) {
  const members = vectors.filter((vector) => vector.joint_limit?.run_id === run);
  return Object.fromEntries(members.map(({ dimension }) => [dimension, strengths[dimension] * (scales[dimension] ?? scale)]));
}

/** How often these strengths are what was measured of `count` together; one alone is bounded by its range, and is 0 times that. */
export function timesMeasured(strengths, together, count) {
  const shares = Object.entries(together).map(([dimension, most]) => Math.abs(strengths[dimension] ?? 0) / most).filter(Boolean);
  return shares.length > 1 ? shares.reduce((sum, share) => sum + share, 0) / count : 0;
}

/** To two digits that are read and typed, downwards, so that they stay within. */
const readable = (strengths) => Object.fromEntries(Object.entries(strengths).map(([name, strength]) => [name, Math.floor(strength * 100 + 1e-6) / 100]));

/** What the limit says, and whether given strengths are beyond it; `use` is called with those measured together. */
export function jointNote(limit, vectors, use) {
  const together = measuredTogether(limit, vectors);
  const words = Object.entries(together).map(([dimension, strength]) => `${dimension} ${signed(strength)}`).join(", ");
  const least = Math.round(100 * Math.min(...Object.keys(together).map((dimension) => limit.kept[dimension])));
  const warning = element("p", { class: "hint warning", hidden: true });
  const button = element("button", { type: "button", class: "quiet" }, "Set these strengths");
  button.addEventListener("click", () => use(readable(together)));
  const node = element("div", { class: "joint" },
    element("p", { class: "hint" },
      element("strong", {}, "Together"), ` measured at ${words}: perplexity ${limit.perplexity_ratio.toFixed(2)}x, and each keeps at least ${least} % of its effect. `, button,
    ),
    warning,
  );
  const show = (strengths) => {
    const times = timesMeasured(strengths, together, Object.keys(limit.strengths).length);
    warning.hidden = times <= 1 + 1e-6;
    warning.textContent = warning.hidden ? "" : `▲ Together ${times.toFixed(1)} times what was measured: see “If too strong”`;
  };
  return { node, show };
}
