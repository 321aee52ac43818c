// Postprocessing of a task: outputs of the source model -> what an app shows.

/** Return the shares of scores; in float64, the largest score subtracted. */
export function softmax(scores) {
  const top = scores.reduce((most, value) => Math.max(most, value), -Infinity);
  const powers = Float64Array.from(scores, (value) => Math.exp(value - top));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

/** Return the positions of the k largest values, of equal ones the first; NaN last. */
export function findTop(values, k) {
  const key = (i) => (Number.isNaN(values[i]) ? -Infinity : values[i]);
  return Array.from(values, (_, i) => i).sort((a, b) => (key(a) === key(b) ? a - b : key(b) > key(a) ? 1 : -1)).slice(0, k);
}

const sigmoid = (value) => 1 / (1 + Math.exp(-value));

function readClasses(answer, labels, { values }) {
  let scores = values.slice(answer.first_class);
  if (scores.length === 1) { // that of the second of two classes
    const share = answer.softmax ? sigmoid(scores[0]) : scores[0];
    scores = Float64Array.of(1 - share, share);
  } else if (answer.softmax) scores = softmax(scores);
  return findTop(scores, answer.top_k).map((index) => ({ index, label: labels[index] ?? String(index), score: scores[index] }));
}

// Rows of the last two axes.
function toRows({ shape, values }, columns) {
  let [rows, wide] = shape.length > 1 ? shape.slice(-2) : [values.length, 1];
  const row = columns ? (i) => Array.from({ length: rows }, (_, k) => values[k * wide + i]) : (i) => values.subarray(i * wide, (i + 1) * wide);
  return Array.from({ length: columns ? wide : rows }, (_, i) => row(i));
}

const CORNERS = {
  xyxy: (a, b, c, d) => [a, b, c, d],
  yxyx: (a, b, c, d) => [b, a, d, c],
  xywh: (a, b, c, d) => [a, b, a + c, b + d],
  cxcywh: (a, b, c, d) => [a - c / 2, b - d / 2, a + c / 2, b + d / 2],
};

function readScores(answer, outputs, rows) {
  let table = rows.map((row) => row.slice(4));
  if (answer.scores) {
    table = toRows(outputs[answer.scores], false);
    if (table.length !== rows.length && table[0].length === rows.length) table = toRows(outputs[answer.scores], true);
  } else if (answer.objectness) table = table.map((row) => row.slice(1).map((score) => score * row[0]));
  if (table.length !== rows.length || !table[0]?.length) throw new RangeError("the boxes have no scores");
  return table;
}

/** Return boxes in pixels of the model's input, highest score first, after non-maximum suppression per class. */
export function readBoxes(answer, outputs, [high, wide]) {
  const rows = toRows(outputs[answer.boxes], answer.columns), table = rows.length ? readScores(answer, outputs, rows) : [];
  const classes = answer.classes_out ? outputs[answer.classes_out].values : null;
  const [x, y] = answer.normalized ? [wide, high] : [1, 1], found = [];
  table.forEach((scores, i) => {
    const best = classes ? 0 : scores.reduce((top, score, k) => (score > scores[top] ? k : top), 0);
    if (!(scores[best] >= answer.score_threshold)) return;
    const [left, top, right, bottom] = CORNERS[answer.format](...rows[i].slice(0, 4));
    found.push({ index: classes ? Math.round(classes[i]) : best, score: scores[best], corners: [left * x, top * y, right * x, bottom * y] });
  });
  return suppress(found.sort((a, b) => b.score - a.score), answer);
}

function computeOverlap(a, b) {
  const wide = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const high = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const [first, second] = [a, b].map((box) => Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]));
  const union = first + second - wide * high;
  return union > 0 ? (wide * high) / union : 0;
}

function suppress(found, { nms_iou: limit, most }) {
  if (limit >= 1) return found.slice(0, most);
  const kept = [];
  for (const box of found) {
    if (kept.length === most) break;
    if (kept.every((other) => other.index !== box.index || computeOverlap(other.corners, box.corners) <= limit)) kept.push(box);
  }
  return kept;
}

// From pixels of the model's input to those of the upright picture.
function toPicture(corners, { width, height, placement: { width: w, height: h, left, top } }) {
  return corners.map((value, i) => {
    const across = i % 2 === 0, size = across ? width : height;
    return Math.min(Math.max(((value + (across ? left : top)) * size) / (across ? w : h), 0), size);
  });
}

/**
 * Return what the outputs mean, as {kind, ...}.
 * `outputs`: {shape, values} by the source's names. `plan`: of the image's Preprocessor, for boxes. `length`: number of
 * token ids, for the next token.
 */
export function readAnswer({ answer, labels }, outputs, { plan = null, size = [1, 1], length = 0 } = {}) {
  const { kind } = answer;
  switch (kind) {
    case "classification": return { kind, classes: readClasses(answer, labels, outputs[answer.name]) };
    case "regression": return { kind, values: Array.from(outputs[answer.name].values), unit: answer.unit };
    case "embedding": {
      const { values } = outputs[answer.name], norm = answer.normalize ? Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)) : 1;
      return { kind, vector: Array.from(values, (value) => (norm > 0 ? value / norm : 0)) };
    }
    case "boxes": return {
      kind, boxes: readBoxes(answer, outputs, size).map((box) => ({ ...box, label: labels[box.index] ?? String(box.index), corners: plan ? toPicture(box.corners, plan) : box.corners })),
    };
    case "next-token": {
      const rows = toRows(outputs[answer.name], false), shares = softmax(rows[(length || rows.length) - 1]);
      return { kind, tokens: findTop(shares, 5).map((id) => ({ id, score: shares[id] })) };
    }
    default: throw new RangeError(`an output of the kind ${kind} is not known`);
  }
}
