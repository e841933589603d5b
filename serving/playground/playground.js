/** The page: reads the setting, asks for both answers, shows what came back. */

import { answerCard, difference } from "./answers.js";
import { call } from "./api.js";
import { announce, byId, element } from "./dom.js";
import { exampleChips, opening } from "./examples.js";
import { compared, steerings, streamed } from "./generation.js";
import { jointLimit, jointNote } from "./joint.js";
import { noSuchVectors, noVectors, problem } from "./problems.js";
import { readable, worth } from "./readings.js";
import { asCurl, asPython } from "./requests_as_code.js";
import { DEFAULTS, fromHash, toHash } from "./setting.js";
import { strengthControl, withoutVectors } from "./strengths.js";
import { lineage } from "./vectors.js";
import { differing } from "./words.js";

const form = byId("setting");
const cards = { unsteered: answerCard(byId("unsteered")), steered: answerCard(byId("steered")) };
const page = { model: "", chat: true, operations: ["add", "project", "when"], hasProbe: true, readable: [], controls: [], joint: null, turns: [], answered: null, running: null };

const access = (signal) => ({ key: byId("key").value, signal });
const fetched = async (path) => (await call(path, access())).json();

function readOption(name) {
  const { type, checked, valueAsNumber, value } = form.elements[name];
  return type === "checkbox" ? checked : type === "number" ? valueAsNumber : value;
}

/** Strengths in the address are kept until there are controls to show them. */
function readStrengths() {
  if (!page.model) return fromHash(location.hash).strengths;
  return Object.fromEntries(page.controls.map((control) => [control.dimension, control.strength()]));
}

function readSetting() {
  const options = Object.keys(DEFAULTS).map((name) => [name, readOption(name)]);
  return { ...Object.fromEntries(options), strengths: readStrengths() };
}

function showSetting() {
  const { strengths, ...options } = fromHash(location.hash);
  for (const [name, value] of Object.entries(options)) {
    const control = form.elements[name];
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
  }
  form.elements.format.querySelector("[value=chat]").disabled = !page.chat;
  if (!page.chat) form.elements.format.value = "text";
  form.elements.op.querySelector("[value=project]").disabled = !page.operations.includes("project");
  form.elements.whereProbe.disabled = !page.operations.includes("when") || !page.hasProbe;
  for (const control of page.controls) control.set(strengths[control.dimension] ?? 0);
  showJoint();
  showFormat();
  showMonitor();
  if (page.model) showNotices(Object.keys(strengths));
}

/** Only conversations have turns: a text is gone on with, and answered once. */
function showFormat() {
  byId("next").hidden = readOption("format") !== "chat";
}

/** What the probe that answers are shaded by is worth. */
function showMonitor() {
  const chosen = page.readable.find(({ dimension }) => dimension === readOption("monitor"));
  byId("monitor-hint").hidden = !chosen;
  byId("monitor-hint").textContent = chosen ? worth(chosen) : "";
}

/** Projections do not count towards the joint limit: their ranges bound them. */
function showJoint() {
  page.joint?.show(readOption("op") === "add" ? readStrengths() : {});
}

/** Bring the answers into sight where the prompt leaves them none, as on a phone. */
function showAnswers() {
  const answers = byId("unsteered");
  if (answers.getBoundingClientRect().top > 0.8 * innerHeight) byId("answers-title").scrollIntoView({ block: "start" });
}

/** Say what the page was asked for and the service lacks. */
function showNotices(asked) {
  const steerable = page.controls.map((control) => control.dimension);
  const missing = asked.filter((dimension) => !steerable.includes(dimension));
  byId("notice").replaceChildren(
    ...(steerable.length ? [] : [noVectors(page.model)]),
    ...(missing.length ? [noSuchVectors(missing)] : []),
  );
}

const keepInAddress = () => history.replaceState(null, "", toHash(readSetting()));

function showService({ model, mlflow_ui: ui, data }) {
  const vectors = data.map((one) => one.vector).filter(Boolean);
  byId("model").textContent = `${model} · ${vectors.length} live vector${vectors.length === 1 ? "" : "s"}`;
  byId("vectors").replaceChildren(lineage(ui, vectors));
}

/** One control a dimension with a live vector; the others are named below. */
function layOut(dimensions) {
  const others = dimensions.filter(({ vector }) => !vector);
  page.controls = dimensions.filter(({ vector }) => vector).map(strengthControl);
  const vectors = dimensions.map(({ vector }) => vector).filter(Boolean);
  const limit = jointLimit(vectors);
  page.joint = limit && jointNote(limit, vectors, setStrengths);
  byId("strengths").replaceChildren(
    ...page.controls.map((control) => control.node),
    ...(page.joint ? [page.joint.node] : []),
    ...(page.controls.length && others.length ? [withoutVectors(page.model, others)] : []),
  );
  page.readable = readable(dimensions);
  const choices = page.readable.map(({ dimension }) => element("option", { value: dimension }, dimension));
  form.elements.monitor.replaceChildren(element("option", { value: "" }, "nothing"), ...choices);
  byId("monitors").hidden = !choices.length;
  byId("examples").replaceChildren(...exampleChips(dimensions, page.chat, tryExample));
  byId("reset").hidden = !page.controls.length;
}

function setStrengths(strengths) {
  for (const control of page.controls) control.set(strengths[control.dimension] ?? 0);
  keepInAddress();
  showJoint();
}

/** Ask what is served and lay out the page for it; again and again while the model loads. */
async function load() {
  try {
    const [models, dimensions] = await Promise.all([fetched("models"), fetched("steering/dimensions")]);
    page.model = models.data[0].id;
    page.chat = models.data[0].chat;
    page.operations = models.data[0].steering.operations;
    page.hasProbe = dimensions.data.some(({ probe_layer: layer }) => layer !== null);
    layOut(dimensions.data);
    openWith(opening(dimensions.data));
    showService(dimensions);
    showSetting();
    setRunning(null);
  } catch (error) {
    byId("model").textContent = "";
    byId("notice").replaceChildren(problem(error));
    if (error.status === 401) byId("access").open = true;
    if (error.status === 503) setTimeout(load, 1000 * (error.retryAfter ?? 2));
  }
}

/** An address without a setting gets one at which steering shows. */
function openWith(example) {
  if (example && !location.hash) history.replaceState(null, "", toHash({ ...DEFAULTS, ...example }));
}

/** Set an example's prompt and strength, to be answered greedily, and generate. */
function tryExample(example) {
  restart();
  const options = { ...DEFAULTS, ...example, stream: readOption("stream") };
  history.replaceState(null, "", toHash(options));
  showSetting();
  run();
}

/** The messages before the next one: each side goes on from its own answers. */
function messagesBefore(name) {
  return page.turns.flatMap((turn) => [{ role: "user", content: turn.prompt }, { role: "assistant", content: turn[name] }]);
}

/** Keep the turn that was answered, and ask for the next one. */
function nextTurn() {
  page.turns.push(page.answered);
  form.elements.prompt.value = "";
  showTurns();
  form.elements.prompt.focus();
  announce(`Turn ${page.turns.length + 1}.`);
}

function restart() {
  page.turns = [];
  showTurns();
}

function showTurns() {
  page.answered = null;
  byId("next").disabled = true;
  byId("restart").hidden = !page.turns.length;
  byId("difference").textContent = "";
  for (const [name, card] of Object.entries(cards)) card.follow(page.turns.map((turn) => ({ prompt: turn.prompt, answer: turn[name] })));
}

/** Show the request as code, and put it on the clipboard where the browser allows. */
async function copyAs(code) {
  if (!form.reportValidity()) return;
  const text = code(page.model, readSetting(), messagesBefore("steered"), byId("key").value !== "");
  byId("code").textContent = text;
  byId("code").hidden = false;
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied.");
  } catch {
    getSelection().selectAllChildren(byId("code"));
    announce("The code is selected: copy it.");
  }
}

async function follow(card, setting, steering, earlier, signal) {
  try {
    for await (const event of streamed(page.model, setting, steering, earlier, access(signal))) card.add(event);
    card.end();
  } catch (error) {
    closeCard(card, error);
  }
}

function closeCard(card, error) {
  if (error.name === "AbortError") card.end("stopped");
  else card.fail(error);
}

async function together(setting, signal) {
  try {
    const answers = await compared(page.model, setting, access(signal));
    for (const [name, card] of Object.entries(cards)) {
      card.add(answers[name]);
      card.end();
    }
  } catch (error) {
    for (const card of Object.values(cards)) closeCard(card, error);
  }
}

async function generate(setting, signal) {
  for (const card of Object.values(cards)) card.begin();
  if (!setting.stream && !page.turns.length) return together(setting, signal);
  const steering = steerings(setting);
  await Promise.all(Object.entries(cards).map(([name, card]) => follow(card, setting, steering[name], messagesBefore(name), signal)));
}

function setRunning(running) {
  page.running = running;
  byId("generate").setAttribute("aria-disabled", String(Boolean(running)));
  if (!running && document.activeElement === byId("stop")) byId("generate").focus();
  byId("stop").disabled = !running;
}

async function run() {
  if (page.running || !page.model) return;
  const setting = readSetting();
  if (setting.format !== "chat" && page.turns.length) restart();
  setRunning(new AbortController());
  page.answered = null;
  byId("next").disabled = true;
  byId("difference").textContent = "";
  announce("Generating both answers.");
  showAnswers();
  await generate(setting, page.running.signal);
  setRunning(null);
  compareAnswers();
  const [unsteered, steered] = [cards.unsteered.answer(), cards.steered.answer()];
  if (setting.format === "chat" && unsteered && steered) page.answered = { prompt: setting.prompt, unsteered, steered };
  byId("next").disabled = !page.answered;
  await refresh();
}

/** Mark the words that only one answer has, and say in a sentence how far they agree. */
function compareAnswers() {
  const [unsteered, steered] = [cards.unsteered.text(), cards.steered.text()];
  const marks = unsteered && steered && !readOption("monitor") && differing(unsteered, steered);
  if (marks) Object.values(cards).forEach((card, index) => card.mark(marks[index]));
  byId("difference").textContent = difference(unsteered, steered, Boolean(marks));
  announce(`Unsteered: ${unsteered} Steered: ${steered} ${byId("difference").textContent}`);
}

/** A vector that was promoted meanwhile has another lineage. */
async function refresh() {
  try {
    showService(await fetched("steering/dimensions"));
  } catch (error) {
    byId("notice").replaceChildren(problem(error));
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  keepInAddress();
  run();
});
form.addEventListener("change", keepInAddress);
for (const kind of ["input", "change"]) form.addEventListener(kind, showJoint);
form.elements.format.addEventListener("change", showFormat);
form.elements.monitor.addEventListener("change", showMonitor);
form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
byId("as-link").addEventListener("click", () => {
  keepInAddress();
  copyAs(() => location.href);
});
byId("next").addEventListener("click", nextTurn);
byId("restart").addEventListener("click", restart);
byId("as-curl").addEventListener("click", () => copyAs(asCurl));
byId("as-python").addEventListener("click", () => copyAs(asPython));
byId("stop").addEventListener("click", () => page.running?.abort());
byId("reset").addEventListener("click", () => setStrengths({}));
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("prompt").focus();
});
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
addEventListener("hashchange", showSetting);
showSetting();
load();
