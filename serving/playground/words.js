/** Words that differ between two answers, found as in a diff: by their longest common subsequence. */

import { element } from "./dom.js";

/** Longer answers are left unmarked: the table of the comparison grows with the product of their lengths. */
const MOST_WORDS = 2000;

/** Words, each with the white space before it. */
const wordsOf = (text) => text.match(/\s*\S+/g) ?? [];

/** How long the common subsequence of the rests of both texts is, from each pair of places on. */
function commonLengths(one, other) {
  const width = other.length + 1;
  const lengths = new Uint16Array((one.length + 1) * width);
  for (let row = one.length - 1; row >= 0; row -= 1) {
    for (let column = other.length - 1; column >= 0; column -= 1) {
      const at = row * width + column;
      lengths[at] = one[row] === other[column] ? lengths[at + width + 1] + 1 : Math.max(lengths[at + width], lengths[at + 1]);
    }
  }
  return (row, column) => lengths[row * width + column];
}

/** For each word of both texts whether the other lacks it there; null where they are too long to compare. */
export function differing(one, other) {
  const [left, right] = [one, other].map((text) => wordsOf(text).map((word) => word.trim()));
  if (Math.max(left.length, right.length) > MOST_WORDS) return null;
  const common = commonLengths(left, right);
  const marks = [left.map(() => true), right.map(() => true)];
  for (let row = 0, column = 0; row < left.length && column < right.length;) {
    if (left[row] === right[column]) marks[0][row++] = marks[1][column++] = false;
    else if (common(row + 1, column) >= common(row, column + 1)) row += 1;
    else column += 1;
  }
  return marks;
}

/** A text as nodes, with neighbouring differing words in one mark. */
export function marked(text, marks) {
  const nodes = [];
  let run = null;
  wordsOf(text).forEach((word, index) => {
    if (!marks[index]) {
      run = null;
      nodes.push(word);
    } else if (run) {
      run.append(word);
    } else {
      run = element("mark", {}, word.trimStart());
      nodes.push(word.slice(0, word.length - word.trimStart().length), run);
    }
  });
  return [...nodes, text.match(/\s*$/)[0]];
}
