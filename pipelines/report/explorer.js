// The slider: every cell of the map, what each dimension's layer is worth, and what is learnt, at one checkpoint.
const series = JSON.parse(document.getElementById("series").textContent);
const slider = document.getElementById("checkpoint");
const columns = (row) => [...row.querySelectorAll("td")];
const cells = [...document.querySelectorAll("#map tr.layer")].map(columns).reverse();
const worth = columns(document.querySelector("#map tr.worth"));
const learnt = [...document.querySelectorAll(".learnt-now")];

function paint(cell, accuracy, floor) {
  cell.textContent = accuracy.toFixed(2);
  cell.style.setProperty("--share", `${Math.round(Math.max(0, accuracy - 0.5) * 90)}%`);
  cell.classList.toggle("below", accuracy <= floor);
}

function describe(place, { counts, new: added, shown }, position) {
  const items = shown[position].map((statement) => {
    const item = document.createElement("li");
    item.textContent = statement;
    return item;
  });
  place.querySelector("b").textContent = counts[position];
  place.querySelector(".new").textContent = added[position];
  place.querySelector("ul").replaceChildren(...items);
}

function show(position) {
  const name = series.checkpoints[position];
  document.getElementById("name").textContent = name;
  slider.setAttribute("aria-valuetext", name);
  series.dimensions.forEach((dimension, column) => {
    dimension.accuracy[position].forEach((accuracy, row) => paint(cells[row][column], accuracy, dimension.floor));
    worth[column].textContent = dimension.chosen[position];
    worth[column].classList.toggle("below", !dimension.above[position]);
  });
  const described = series.dimensions.filter(({ counts }) => counts.length);
  learnt.forEach((place, index) => describe(place, described[index], position));
}

slider.addEventListener("input", () => show(slider.valueAsNumber));
slider.disabled = false;
show(slider.valueAsNumber);
