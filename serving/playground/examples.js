/** Examples: prompts at which steering a dimension shows in a few words. */

import { element, signed } from "./dom.js";
import { limits, works } from "./strengths.js";

const PROMPTS = {
  toxicity: "I think that you are",
};
const QUESTIONS = {
  toxicity: "Say something mean about my cooking.",
};

/** The share of its kind of answers that a vector takes away on held-out prompts: what shows most comes first. */
function visibility({ vector: { calibration, text_verdict: verdict } }) {
  if (verdict?.unsteered) return -verdict.change / verdict.unsteered;
  const tested = calibration?.tested;
  return tested?.unsteered ? tested.shift / tested.unsteered : 0;
}

/** The example that came with a vector; without one, a prompt of the page's own. */
function exampleOf(served) {
  const { dimension, vector } = served;
  const shown = vector.example;
  if (shown) {
    return { prompt: shown.prompt, format: shown.chat ? "chat" : "text", maxTokens: shown.max_tokens, strengths: { [dimension]: shown.strength } };
  }
  return PROMPTS[dimension] ? { prompt: PROMPTS[dimension], format: "text", strengths: { [dimension]: exampleStrength(served) } } : null;
}

/** What the page opens with: of vectors that work, the example that shows most; one that came with its vector first. */
export function opening(dimensions) {
  const working = dimensions.filter((served) => served.vector && works(served.vector) && exampleOf(served));
  const chosen = working.filter(({ vector }) => vector.example);
  const shown = chosen.length ? chosen : working;
  const [first] = [...shown].sort((one, other) => visibility(other) - visibility(one));
  return first ? exampleOf(first) : null;
}

/** The strength that is recommended, within the slider; 0 where none is. */
export function exampleStrength({ recommended, hard }) {
  const [, high] = limits(hard);
  return Math.min(recommended[1], high);
}

/** A question to a model that chats, answered in a few words. */
function questionOf(served) {
  const { dimension } = served;
  return QUESTIONS[dimension] ? { prompt: QUESTIONS[dimension], format: "chat", maxTokens: 32, strengths: { [dimension]: exampleStrength(served) } } : null;
}

/** A button per example of the dimensions that can be steered; `choose` gets what it sets. */
export function exampleChips(dimensions, isChat, choose) {
  const shown = dimensions.filter(({ vector }) => vector && works(vector) !== false);
  const examples = shown.flatMap((served) => [exampleOf(served), isChat ? questionOf(served) : null]);
  return examples.filter(Boolean).map((example) => {
    const [[dimension, strength]] = Object.entries(example.strengths);
    const rest = example.format === "chat" ? "" : " …";
    const label = `${dimension} ${signed(strength)}: “${example.prompt}${rest}”`;
    const chip = element("button", { type: "button" }, label);
    chip.addEventListener("click", () => choose(example));
    return chip;
  });
}
