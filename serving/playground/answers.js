/** One of the two answers while it grows, and what was applied to it. */

import { element, scrolling, signed, table } from "./dom.js";
import { problem } from "./problems.js";
import { layersText } from "./vectors.js";
import { readingsInShort, shaded } from "./readings.js";
import { marked } from "./words.js";

const REASONS = { stop: "ended by itself", length: "cut at the limit", cancelled: "cancelled" };

const DOSE = "Dose: the length of the most that is added to a token, as a share of a typical hidden state's.";

const percent = (share) => `${Number((share * 100).toPrecision(2))}\u00a0%`;

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
    one.dimension, signed(one.strength ?? one.target), percent(one.relative_dose), layersText(one.layers), one.version, how(one),
  ]);
  return scrolling("Vectors applied", table("Vectors applied", headers, rows));
}

/** What the service says that it did. */
function appliedBlock({ applied, fingerprint, tokens_steered: tokens, warnings = [], monitored = [] }) {
  const steered = `${tokens.prompt} of the prompt, ${tokens.generation} generated`;
  return [
    ...(applied.length ? [appliedTable(applied), element("p", { class: "hint" }, DOSE)] : [element("p", {}, "Nothing was applied.")]),
    ...monitored.map((probe) => element("p", {}, readingsInShort(probe))),
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
  const applied = element("div", { class: "applied" });
  const turns = element("ol", { class: "turns", "aria-label": "Earlier turns" });
  article.append(turns, body, progress, applied);
  let text = "";
  let readings = [];
  let whole = false;
  let ending = {};
  let started = 0;
  let first = null;
  const elapsed = () => (performance.now() - started) / 1000;

  return {
    text: () => text,
    /** The text, if no error broke it off. */
    answer: () => (whole ? text : ""),
    /** Show the earlier turns of the conversation above an empty answer. */
    follow(earlier) {
      [text, readings, whole] = ["", [], false];
      turns.replaceChildren(...earlier.map(({ prompt, answer }) => element("li", {}, element("p", { class: "hint" }, prompt), element("p", {}, answer))));
      body.replaceChildren();
      applied.replaceChildren();
      progress.textContent = "Nothing generated yet.";
    },
    begin() {
      [text, readings, whole, ending, started, first] = ["", [], false, {}, performance.now(), null];
      body.replaceChildren();
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
      readings.push(...event.readings);
      body.append(event.text);
      for (const name of ["reason", "usage", "steering"]) ending[name] = event[name] ?? ending[name];
    },
    end(how = REASONS[ending.reason] ?? "") {
      article.removeAttribute("aria-busy");
      whole = true;
      body.replaceChildren(...(text ? shaded(text, readings) : [element("span", { class: "hint" }, "(no text)")]));
      const measured = ending.usage && pace({ tokens: ending.usage.completion_tokens, seconds: elapsed(), first });
      progress.textContent = [measured, how].filter(Boolean).join(" · ");
      if (ending.steering) applied.replaceChildren(...appliedBlock(ending.steering));
    },
    fail(error) {
      article.removeAttribute("aria-busy");
      progress.textContent = text ? "broken off" : "";
      applied.replaceChildren(problem(error));
    },
    mark(marks) {
      body.replaceChildren(...marked(text, marks));
    },
  };
}

/** In a sentence, how far two answers agree, and whether the differing words are marked. */
export function difference(one, other, areMarked) {
  if (!one || !other) return "";
  if (one === other) return "The two answers are identical.";
  const [left, right] = [one, other].map((text) => text.trim().split(/\s+/));
  let same = 0;
  while (same < left.length && left[same] === right[same]) same += 1;
  const agreement = same
    ? `The two answers agree in their first ${same === 1 ? "word" : `${same} words`}.`
    : "The two answers differ from the first word on.";
  return areMarked ? `${agreement} Words that only one of them has are marked.` : agreement;
}
