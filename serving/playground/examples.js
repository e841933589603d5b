/** Examples: prompts at which steering a dimension shows in a few words. */

import { element, signed } from "./dom.js";
import { limits } from "./strengths.js";

const PROMPTS = {
  toxicity: "I think that you are",
};
const ENOUGH = 2;

/** The strength that calibration recommends, or as much of two standard deviations as is in range. */
export function exampleStrength({ recommended, hard, vector }) {
  const [, high] = limits(hard);
  return vector.calibration?.recommended || Math.min(ENOUGH, recommended[1], high);
}

/** A button per example of the dimensions that can be steered; `choose` gets what it sets. */
export function exampleChips(dimensions, choose) {
  return dimensions.filter(({ dimension, vector }) => vector && PROMPTS[dimension]).map((served) => {
    const { dimension } = served;
    const example = { prompt: PROMPTS[dimension], strengths: { [dimension]: exampleStrength(served) } };
    const label = `${dimension} ${signed(example.strengths[dimension])}: “${example.prompt} …”`;
    const chip = element("button", { type: "button" }, label);
    chip.addEventListener("click", () => choose(example));
    return chip;
  });
}
