/** Asking for the unsteered and the steered answer: two streams with the same seed, or both in one batch. */

import { call, events } from "./api.js";

/**
 * What each answer is asked to be steered by. Zeros are sent too, as strengths: they hide a default of the server's.
 * Every token is steered, as where the effects that stand beside the sliders were measured; on a condition those of the
 * answer, which probes read.
 */
export function steerings({ strengths, onExceed, op, whereProbe, monitor }) {
  const isTarget = ([, value]) => op === "project" && value !== 0;
  const all = Object.entries(strengths);
  const steered = {
    strengths: Object.fromEntries(all.filter((one) => !isTarget(one))),
    targets: Object.fromEntries(all.filter(isTarget)),
    on_exceed: onExceed,
    ...(all.length && { apply: { prompt: whereProbe ? "last" : "all" } }),
    ...(whereProbe && all.length && { when: {} }),
    ...(monitor && { monitor: [monitor] }),
  };
  const nothing = Object.fromEntries(all.map(([dimension]) => [dimension, 0]));
  return { unsteered: monitor ? { strengths: nothing, monitor: [monitor] } : "off", steered };
}

/** `history` holds the messages of earlier turns. */
export function requestBody(model, { format, prompt, maxTokens, temperature, seed }, history = []) {
  const asked = format === "chat"
    ? { messages: [...history, { role: "user", content: prompt }], max_completion_tokens: maxTokens }
    : { prompt, max_tokens: maxTokens };
  return { model, ...asked, temperature, seed };
}

export const requestPath = ({ format }) => (format === "chat" ? "chat/completions" : "completions");

/** Yields what each event adds to one answer: its text, and near the end why it ended and what was applied. */
export async function* streamed(model, setting, steering, history, access) {
  const body = { ...requestBody(model, setting, history), steering, stream: true, stream_options: { include_usage: true } };
  for await (const event of events(await call(requestPath(setting), { ...access, body }))) {
    const choice = event.choices[0];
    yield {
      text: choice?.delta?.content ?? choice?.text ?? "",
      readings: choice?.readings ?? [],
      reason: choice?.finish_reason ?? null,
      usage: event.usage ?? null,
      steering: event.steering ?? null,
    };
  }
}

/** Both answers at once, each as the one event of a stream. */
export async function compared(model, setting, access) {
  const { unsteered, steered } = steerings(setting);
  const body = { ...requestBody(model, setting), settings: [{ steering: unsteered }, { steering: steered }] };
  const { data } = await (await call("steering/compare", { ...access, body })).json();
  const [first, second] = data.map(({ text, readings = [], finish_reason: reason, usage, steering }) => ({ text, readings, reason, usage, steering }));
  return { unsteered: first, steered: second };
}
