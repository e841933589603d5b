/** What a probe reads of an answer: the shade of each piece of it, and in words what the shades are worth. */

import { element } from "./dom.js";

const share = (value) => `${Math.round(value * 100)}\u00a0%`;

/**
 * The text in pieces, each shaded by how far the reading that first knows it lies below one half. That reading comes with
 * the next token; the last piece keeps its own. A text whose pieces are not those that were read stays plain.
 */
export function shaded(text, readings) {
  const scores = readings.map((reading) => Object.values(reading.scores)[0]);
  const pieces = readings.map((reading, index) => [reading.text, scores[index + 1] ?? scores[index] ?? null]).filter(([piece]) => piece);
  if (!pieces.length || !pieces.map(([piece]) => piece).join("").startsWith(text)) return [text];
  let left = text.length;
  return pieces.map(([piece, score]) => {
    const title = score === null ? "not read" : `P(trustworthy) ${score.toFixed(2)}`;
    const node = element("span", { class: "read", title }, piece.slice(0, left));
    node.style.setProperty("--shade", String(score === null ? 0 : Math.max(0, 1 - 2 * score)));
    left = Math.max(0, left - piece.length);
    return node;
  });
}

/** One probe's readings of an answer, in a sentence. */
export function readingsInShort({ dimension, mean, lowest, tokens }) {
  if (!tokens) return `The probe of ${dimension} read nothing.`;
  return `P(trustworthy) by the probe of ${dimension}: mean ${mean.toFixed(2)}, lowest ${lowest.toFixed(2)} of ${tokens} tokens.`;
}

/** The dimensions that answers may be shaded by: those whose probe was measured on answers, and works. */
export function readable(dimensions) {
  return dimensions.filter(({ vector }) => vector?.probe?.works && vector.probe.quality);
}

/** Beside the choice of a probe: what its readings are worth. */
export function worth({ dimension, vector }) {
  const { window, quality } = vector.probe;
  const interval = [quality.auroc, quality.auroc_low, quality.auroc_high].map((value) => value.toFixed(2));
  return `Shade: P(trustworthy) below one half by the probe of ${dimension}, over the latest ${window} tokens. It tells held-out answers apart with AUROC ${interval[0]} [${interval[1]}, ${interval[2]}] at their tokens, ${quality.at_end.toFixed(2)} at their end (n = ${quality.n_answers}); ${share(quality.false_alarms)} of the tokens of ordinary prose are shaded too.`;
}
