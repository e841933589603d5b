/** What went wrong, said so that a person can act on it. */

import { element } from "./dom.js";

const TITLES = {
  0: "No connection",
  400: "Not understood",
  401: "A key is needed",
  403: "This key may not",
  404: "Not found",
  409: "Vector and model do not match",
  413: "Too long",
  422: "Too strong",
  429: "The queue is full",
  503: "Not ready",
};

export function problem({ status, message, code, param, retryAfter }) {
  const details = [
    status ? `${status} ${code}`.trim() : code,
    param && `field ${param}`,
    retryAfter && `try again in ${retryAfter} s`,
  ];
  return element("div", { class: "problem", role: "alert" },
    element("strong", {}, TITLES[status] ?? "The service failed"),
    element("p", {}, message),
    element("p", { class: "hint" }, details.filter(Boolean).join(" · ")),
  );
}

export function noVectors(model) {
  return element("div", { class: "problem" },
    element("strong", {}, `No steering vectors are registered for ${model}`),
    element("p", {}, "Both answers will be the same until there are some. This command makes them:"),
    element("pre", { tabindex: "0" }, `mlflow run . -e calibrate --env-manager local -P model=${model}`),
    element("p", { class: "hint" }, "Then load this page again."),
  );
}

export function noSuchVectors(dimensions) {
  return element("div", { class: "problem" },
    element("p", {}, `The address asks for ${dimensions.join(", ")}, which no live vector steers here.`),
  );
}
