/** An element with attributes and children. Attributes that are null, undefined or false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(attribute, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Say something to screen readers once they are done with what they are reading. */
export function announce(text) {
  byId("status").textContent = text;
}

/** `1.5` as `+1.5`, `-2` as `−2`, `0` as `0`. */
export function signed(value, digits = 2) {
  const rounded = Number(value.toFixed(digits));
  const sign = rounded > 0 ? "+" : rounded < 0 ? "−" : "";
  return sign + Math.abs(rounded);
}

/** A table with a header row; each cell is text or a node. */
export function table(caption, headers, rows) {
  return element("table", {},
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...headers.map((header) => element("th", { scope: "col" }, header)))),
    element("tbody", {}, ...rows.map(([first, ...others]) =>
      element("tr", {}, element("th", { scope: "row" }, first), ...others.map((cell) => element("td", {}, cell)))
    )),
  );
}

/** A part that scrolls on its own when it is too wide or too long, also by keyboard. */
export function scrolling(label, content) {
  return element("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, content);
}
