/** One of the two answers while it grows, and what was applied to it. */

import { element, scrolling, signed, table } from "./dom.js";
import { problem } from "./problems.js";

const REASONS = { stop: "ended by itself", length: "cut at the limit", cancelled: "cancelled" };

const DOSE = "Dose: the length of the most that is added to a token, as a share of a typical hidden state's.";

const percent = (share) => `${Number((share * 100).toPrecision(2))} %`;

/** The operation in words, and for one that depends on the token, at how many tokens it moved something. */
function how({ op, when, tokens_steered: tokens }) {
  const verb = op === "project" ? "projected" : "added";
  const where = when ? ` where P(trustworthy) < ${when.probe_below}` : "";
  const total = tokens ? tokens.prompt + tokens.generation : null;
  return `${verb}${where}${total === null ? "" : `, at ${total} token${total === 1 ? "" : "s"}`}`;
}

function appliedTable(applied) {
  const headers = ["Dimension", "SD", "Dose", "Layer", "Version", "How"];
  const rows = applied.map((one) => [
    one.dimension, signed(one.strength ?? one.target), percent(one.relative_dose), one.layers.join(", "), one.version, how(one),
  ]);
  return scrolling("Vectors applied", table("Vectors applied", headers, rows));
}

/** What the service says that it did. */
function appliedBlock({ applied, fingerprint, tokens_steered: tokens, warnings = [] }) {
  const steered = `${tokens.prompt} of the prompt, ${tokens.generation} generated`;
  return [
    ...(applied.length ? [appliedTable(applied), element("p", { class: "hint" }, DOSE)] : [element("p", {}, "Nothing was applied.")]),
    ...warnings.map((warning) => element("p", { class: "warning" }, `▲ ${warning}`)),
    element("dl", {},
      element("dt", {}, "Tokens steered"), element("dd", {}, steered),
      element("dt", {}, "Fingerprint"), element("dd", {}, element("code", {}, fingerprint || "none")),
    ),
  ];
}

/** How much was generated in how long. */
export function pace({ tokens, seconds, first }) {
  const rate = tokens && seconds ? `, ${(tokens / seconds).toFixed(tokens / seconds < 10 ? 1 : 0)} tokens/s` : "";
  const wait = first === null ? "" : `, first after ${first.toFixed(2)} s`;
  return `${tokens} token${tokens === 1 ? "" : "s"} in ${seconds.toFixed(1)} s${rate}${wait}`;
}

/** The card of one answer; `text()` is what it holds so far. */
export function answerCard(article) {
  const body = element("div", { class: "text" });
  const progress = element("p", { class: "hint" }, "Nothing generated yet.");
  const score = element("div", { class: "score" });
  const applied = element("div", { class: "applied" });
  article.append(body, score, progress, applied);
  let text = "";
  let ending = {};
  let started = 0;
  let first = null;
  const elapsed = () => (performance.now() - started) / 1000;

  return {
    text: () => text,
    begin() {
      [text, ending, started, first] = ["", {}, performance.now(), null];
      body.replaceChildren();
      score.replaceChildren();
      applied.replaceChildren();
      progress.textContent = "Waiting for the first token …";
      article.setAttribute("aria-busy", "true");
    },
    add(event) {
      if (event.text && !text && !event.usage) {
        first = elapsed();
        progress.textContent = "Generating …";
      }
      text += event.text;
      body.append(event.text);
      for (const name of ["reason", "usage", "steering"]) ending[name] = event[name] ?? ending[name];
    },
    end(how = REASONS[ending.reason] ?? "") {
      article.removeAttribute("aria-busy");
      body.replaceChildren(text || element("span", { class: "hint" }, "(no text)"));
      const measured = ending.usage && pace({ tokens: ending.usage.completion_tokens, seconds: elapsed(), first });
      progress.textContent = [measured, how].filter(Boolean).join(" · ");
      if (ending.steering) applied.replaceChildren(...appliedBlock(ending.steering));
    },
    fail(error) {
      article.removeAttribute("aria-busy");
      progress.textContent = text ? "broken off" : "";
      applied.replaceChildren(problem(error));
    },
    /** Show the text as coloured tokens with their summary, or plain where there are none. */
    colour(tokens, summary) {
      if (!text) return;
      body.replaceChildren(...(tokens ?? [text]));
      score.replaceChildren(...(summary ?? []));
    },
  };
}

/** In a sentence, how far two answers agree. */
export function difference(one, other) {
  if (!one || !other) return "";
  if (one === other) return "The two answers are identical.";
  let same = 0;
  while (one[same] === other[same]) same += 1;
  return `The two answers agree in their first ${same} character${same === 1 ? "" : "s"}.`;
}
