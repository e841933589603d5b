/** Where each live vector came from. */

import { element, scrolling, table } from "./dom.js";

const HEADERS = ["Dimension", "Vector", "Checkpoint", "Step", "Layer", "Method", "Statements", "Statements digest", "Run"];

/** A link where there is an address, else the text alone. */
function linked(text, address) {
  return address ? element("a", { href: address, target: "_blank", rel: "noopener" }, text) : text;
}

const abbreviated = (digest) => element("code", { title: digest }, digest.slice(0, 12));

/** Layers in a cell: `12`, or `10-14` for consecutive ones. */
export function layersText(layers) {
  const runs = [];
  for (const layer of layers) {
    const run = runs.at(-1);
    if (run && layer === run[1] + 1) run[1] = layer;
    else runs.push([layer, layer]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}

function row(ui, vector) {
  const version = ui && `${ui}/#/models/${vector.name}/versions/${vector.version}`;
  const run = ui && vector.experiment_id && `${ui}/#/experiments/${vector.experiment_id}/runs/${vector.run_id}`;
  return [
    vector.dimension,
    element("span", { title: vector.imported_from && `imported; it was ${vector.imported_from}` }, linked(`${vector.name}/${vector.version}`, version), vector.imported_from ? " (imported)" : ""),
    vector.checkpoint.replace("models:/", ""),
    String(vector.step),
    layersText(vector.layers),
    vector.method,
    String(vector.n_train),
    abbreviated(vector.statements_digest),
    linked(abbreviated(vector.run_id), run),
  ];
}

/** The lineage of the vectors, linked to the MLflow UI at `ui` where its address is known. */
export function lineage(ui, vectors) {
  if (!vectors.length) return element("p", {}, "None yet.");
  const rows = vectors.map((vector) => row(ui?.replace(/\/$/, ""), vector));
  return scrolling("Live vectors", table("Live vectors and their lineage", HEADERS, rows));
}
