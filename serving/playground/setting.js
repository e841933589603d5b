/** Everything that a person can set on the page but the key, and how it is written in the address. */

export const DEFAULTS = Object.freeze({
  prompt: "Is it true that the city of Lyon is in Germany?",
  format: "chat",
  maxTokens: 64,
  temperature: 0,
  seed: 7,
  onExceed: "reject",
  op: "add",
  whereProbe: false,
  monitor: "",
  stream: true,
});

const STRENGTH = "strength.";

/** What differs from the defaults, such as `#strength.toxicity=1.5&seed=3`. */
export function toHash({ strengths, ...options }) {
  const query = new URLSearchParams();
  for (const [dimension, strength] of Object.entries(strengths)) {
    if (strength !== 0) query.set(STRENGTH + dimension, strength);
  }
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (options[name] !== value) query.set(name, options[name]);
  }
  return `#${query}`;
}

/** The inverse of `toHash`; what is unknown or of another type keeps its default. */
export function fromHash(hash) {
  const query = new URLSearchParams(hash.slice(1));
  const options = Object.entries(DEFAULTS).map(([name, value]) => [name, parsed(query.get(name), value)]);
  const strengths = [...query]
    .filter(([name, value]) => name.startsWith(STRENGTH) && isNumber(value))
    .map(([name, value]) => [name.slice(STRENGTH.length), Number(value)]);
  return { ...Object.fromEntries(options), strengths: Object.fromEntries(strengths) };
}

const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));

function parsed(text, fallback) {
  if (text === null) return fallback;
  if (typeof fallback === "boolean") return text === "true";
  if (typeof fallback === "number") return isNumber(text) ? Number(text) : fallback;
  return text;
}
