/** Tokens coloured by a probe: blue and underlined towards trustworthy, orange and dotted away from it. */

import { element, scrolling, table } from "./dom.js";

/** From −1 (surely untrustworthy) over 0 (undecided) to 1 (surely trustworthy). */
export const leaning = (score) => 2 * score - 1;

const shown = (score) => score.toFixed(2);

function token(text, score) {
  const made = element("data", { value: score, title: `P(trustworthy) ${shown(score)}`, class: score < 0.5 ? "away" : "towards" }, text);
  made.style.setProperty("--weight", Math.abs(leaning(score)).toFixed(3));
  return made;
}

/** The tokens of an answer as nodes. */
export const coloured = (tokens, dimension) => tokens.map(({ text, scores }) => token(text, scores[dimension]));

/** What one answer scores, as a sentence and, folded away, as a table. */
export function summary({ scores, tokens }, dimension) {
  const rows = tokens.map(({ text, scores: each }) => [element("code", {}, text), shown(each[dimension])]);
  return [
    element("p", {}, `P(${dimension}: trustworthy) of the whole answer: `, element("strong", {}, shown(scores[dimension]))),
    element("details", {},
      element("summary", {}, "Scores of all tokens"),
      scrolling("Scores of all tokens", table(`Scores of all tokens by the ${dimension} probe`, ["Token", "P(trustworthy)"], rows), "long"),
    ),
  ];
}

export function legend({ dimension, trustworthy, untrustworthy }) {
  const samples = [0, 0.25, 0.5, 0.75, 1].map((score) => token(shown(score), score));
  return [
    element("p", { class: "samples" },
      `P(${dimension}: trustworthy) `,
      element("span", { class: "hint" }, untrustworthy), ...samples, element("span", { class: "hint" }, trustworthy),
    ),
    element("p", { class: "hint" }, "Each token is scored by the registered linear probe on the answer alone, without the prompt."),
  ];
}
