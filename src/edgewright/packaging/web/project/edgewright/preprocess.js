// Image preprocessing of a task: pixels -> model input, bit-identical to `edgewright evaluate`.
// One Preprocessor serves frames of any size; what depends on the size is computed again when it changes.

const MAX_PIXELS = 89478485;
const WEIGHT_BITS = 22;
const HALF = 1 << (WEIGHT_BITS - 1);
const FILTER_CUBIC_A = -0.5, NEIGHBOR_CUBIC_A = -0.75;
const WHOLE = 2 ** 52; // from here on every float64 is an integer
const SUPPORTS = { bilinear: 1, bicubic: 2, lanczos: 3, box: 0.5, hamming: 1 };
const GROUNDS = { white: 255, black: 0 };
export const ARRAYS = {
  float32: Float32Array, float16: Uint16Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array,
  int16: Int16Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array,
};
const LIMITS = { uint8: [0, 255], int8: [-128, 127], int16: [-32768, 32767], int32: [-2147483648, 2147483647] };

/** Round to the nearest integer, halves to the even one. */
export function roundHalfEven(value) {
  const size = Math.abs(value);
  if (!(size < WHOLE)) return value;
  const rounded = size + WHOLE - WHOLE;
  return value < 0 ? -rounded : rounded;
}

// Placement: torchvision's resize and center crop, the letterbox of the YOLO family

function computeResized(p, width, height) {
  const [high, wide] = p.size, to = p.resize_to;
  switch (p.resize) {
    case "exact": return typeof to === "number" ? [to, to] : to ? [to[1], to[0]] : [wide, high];
    case "pad": {
      const ratio = Math.min(high / height, wide / width);
      return [Math.max(1, roundHalfEven(width * ratio)), Math.max(1, roundHalfEven(height * ratio))];
    }
    case "shorter": {
      const side = typeof to === "number" ? to : Math.min(high, wide);
      return width <= height ? [side, Math.floor((side * height) / width)] : [Math.floor((side * width) / height), side];
    }
    default: return [width, height];
  }
}

const startCrop = (have, want) => (have >= want ? roundHalfEven((have - want) / 2) : -Math.floor((want - have) / 2));

/** Return the resized width and height, and the corner of the model input in it; negative values are padding. */
export function place(p, width, height) {
  const [high, wide] = p.size, [w, h] = computeResized(p, width, height);
  if (width * height > MAX_PIXELS || w * h > MAX_PIXELS) throw new RangeError(`the picture has more than ${MAX_PIXELS} pixels`);
  if (p.resize === "pad") {
    const centered = p.pad_align === "center";
    return { width: w, height: h, left: centered ? -Math.floor((wide - w) / 2) : 0, top: centered ? -Math.floor((high - h) / 2) : 0 };
  }
  if (w === wide && h === high) return { width: w, height: h, left: 0, top: 0 };
  if (p.crop === "none" || (p.resize === "none" && (w < wide || h < high))) {
    throw new RangeError(`the picture is ${width} x ${height}, the model takes ${wide} x ${high}, and the task does not resize it`);
  }
  return { width: w, height: h, left: startCrop(w, wide), top: startCrop(h, high) };
}

// Weights of the source positions of each output position along one axis

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

function weighCubic(x, a) {
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

const FILTERS = {
  bilinear: (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0),
  bicubic: (x) => weighCubic(x, FILTER_CUBIC_A),
  lanczos: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0),
  box: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0),
  hamming: (x) => {
    x = Math.abs(x);
    return x === 0 ? 1 : x >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI));
  },
};

// Pillow's filters widen with the reduction; their weights have the sum 1 and are stored as 22-bit integers.
function makeFilterAxis(p, have, size, start, count) {
  const scale = have / size, widened = Math.max(1, scale), support = SUPPORTS[p.interpolation] * widened;
  const inverse = 1 / widened, most = Math.ceil(support) * 2 + 1, weigh = FILTERS[p.interpolation];
  const axis = { most, first: new Int32Array(count), count: new Int32Array(count), weights: new Int32Array(count * most) };
  const row = new Float64Array(most);
  for (let i = 0; i < count; i++) {
    const center = (start + i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(center - support + 0.5)), to = Math.min(have, Math.trunc(center + support + 0.5));
    let sum = 0;
    for (let k = 0; k < to - from; k++) sum += row[k] = weigh((k + from - center + 0.5) * inverse);
    for (let k = 0; k < to - from; k++) {
      const weight = (sum !== 0 ? row[k] / sum : row[k]) * (1 << WEIGHT_BITS);
      axis.weights[i * most + k] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    axis.first[i] = from;
    axis.count[i] = to - from;
  }
  return axis;
}

// Two or four neighbors: half-pixel centers, repeated edges, weights in float32.
function makeNeighborAxis(p, have, size, start, count) {
  const cubic = p.interpolation === "bicubic", most = cubic ? 4 : 2, scale = have / size, a = NEIGHBOR_CUBIC_A;
  const axis = { most, source: new Int32Array(count * most), weights: new Float32Array(count * most) };
  const near = (x) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  for (let i = 0; i < count; i++) {
    let at = (start + i + 0.5) * scale - 0.5;
    if (!cubic) at = Math.max(at, 0);
    const floored = Math.floor(at), t = at - floored;
    axis.weights.set(cubic ? [far(t + 1), near(t), near(1 - t), far(2 - t)] : [1 - t, t], i * most);
    for (let k = 0; k < most; k++) axis.source[i * most + k] = Math.min(Math.max(floored + k - (cubic ? 1 : 0), 0), have - 1);
  }
  return axis;
}

// Nearest: positions summed up from half a step, as Pillow does; -1 is a position past the end.
function makeNearestAxis(have, size, start, count) {
  const step = have / size, source = new Int32Array(count);
  for (let i = 0, at = step * 0.5; i < start + count; i++, at += step) {
    if (i >= start) source[i - start] = at < have ? Math.trunc(at) : -1;
  }
  return { source };
}

// Passes over pixels [rows, columns, channels]

const toByte = (sum) => {
  sum >>= WEIGHT_BITS;
  return sum < 0 ? 0 : sum > 255 ? 255 : sum;
};

function filterColumns(pixels, width, rows, axis, c) {
  const count = axis.first.length, out = new Uint8Array(rows * count * c), { most, weights } = axis;
  for (let y = 0, to = 0; y < rows; y++) {
    for (let x = 0; x < count; x++, to += c) {
      const taps = axis.count[x];
      let from = (y * width + axis.first[x]) * c, at = x * most;
      if (c === 3) {
        let red = HALF, green = HALF, blue = HALF;
        for (let k = 0; k < taps; k++, from += 3) {
          const weight = weights[at++];
          red += pixels[from] * weight;
          green += pixels[from + 1] * weight;
          blue += pixels[from + 2] * weight;
        }
        out[to] = toByte(red);
        out[to + 1] = toByte(green);
        out[to + 2] = toByte(blue);
      } else {
        let sum = HALF;
        for (let k = 0; k < taps; k++) sum += pixels[from++] * weights[at++];
        out[to] = toByte(sum);
      }
    }
  }
  return out;
}

// `skipped` is the number of source rows that `pixels` lacks at its top.
function filterRows(pixels, cells, axis, skipped) {
  const count = axis.first.length, out = new Uint8Array(count * cells), sums = new Int32Array(cells);
  for (let y = 0; y < count; y++) {
    sums.fill(HALF);
    for (let k = 0; k < axis.count[y]; k++) {
      const from = (axis.first[y] + k - skipped) * cells, weight = axis.weights[y * axis.most + k];
      for (let i = 0; i < cells; i++) sums[i] += pixels[from + i] * weight;
    }
    for (let i = 0; i < cells; i++) out[y * cells + i] = toByte(sums[i]);
  }
  return out;
}

function cut(pixels, width, { left, top, wide, high }, c) {
  if (left === 0 && wide === width) return pixels.subarray(top * width * c, (top + high) * width * c);
  const out = new Uint8Array(wide * high * c);
  for (let y = 0; y < high; y++) {
    const from = ((top + y) * width + left) * c;
    out.set(pixels.subarray(from, from + wide * c), y * wide * c);
  }
  return out;
}

function runFilters(plan, pixels, c) {
  const { width, height, x, y, part } = plan;
  if (plan.rowsFirst) return filterColumns(filterRows(pixels, width * c, y, 0), width, part.high, x, c);
  let top = part.top, high = part.high;
  if (y) {
    top = Math.min(...y.first);
    high = y.first.reduce((last, first, i) => Math.max(last, first + y.count[i]), 0) - top;
  }
  const rows = cut(pixels, width, { left: x ? 0 : part.left, top, wide: x ? width : part.wide, high }, c);
  const passed = x ? filterColumns(rows, width, high, x, c) : rows;
  return y ? filterRows(passed, part.wide * c, y, top) : passed;
}

// Rows first, sums in float32 in the order of the neighbors, then columns; rounded half to even once.
function sampleNeighbors({ width, x, y, part }, pixels, c) {
  const out = new Uint8Array(part.high * part.wide * c), row = new Float32Array(width * c);
  for (let line = 0; line < part.high; line++) {
    row.fill(0);
    for (let k = 0; k < y.most; k++) {
      const from = y.source[line * y.most + k] * width * c, weight = y.weights[line * y.most + k];
      for (let i = 0; i < row.length; i++) row[i] += Math.fround(pixels[from + i] * weight);
    }
    for (let i = 0; i < part.wide; i++) {
      for (let channel = 0; channel < c; channel++) {
        let sum = 0;
        for (let k = 0; k < x.most; k++) {
          sum = Math.fround(sum + Math.fround(row[x.source[i * x.most + k] * c + channel] * x.weights[i * x.most + k]));
        }
        out[(line * part.wide + i) * c + channel] = Math.min(Math.max(roundHalfEven(sum), 0), 255);
      }
    }
  }
  return out;
}

function sampleNearest({ width, x, y, part }, pixels, c) {
  const out = new Uint8Array(part.high * part.wide * c);
  for (let line = 0, to = 0; line < part.high; line++) {
    for (let i = 0; i < part.wide; i++) {
      const inside = y.source[line] >= 0 && x.source[i] >= 0, from = (y.source[line] * width + x.source[i]) * c;
      for (let channel = 0; channel < c; channel++, to++) out[to] = inside ? pixels[from + channel] : 0;
    }
  }
  return out;
}

// What depends on the size of the frame: the part of the model input that the image covers, and the weights.
function makePlan(p, width, height) {
  const at = place(p, width, height), [high, wide] = p.size;
  const x0 = Math.max(0, -at.left), y0 = Math.max(0, -at.top), left = Math.max(0, at.left), top = Math.max(0, at.top);
  const part = { left, top, wide: Math.max(0, Math.min(at.width - left, wide - x0)), high: Math.max(0, Math.min(at.height - top, high - y0)) };
  const plan = { width, height, placement: at, x0, y0, part, run: (own, pixels, c) => cut(pixels, width, part, c) };
  if ((at.width === width && at.height === height) || part.wide === 0 || part.high === 0) return plan;
  if (p.interpolation === "nearest") {
    return { ...plan, x: makeNearestAxis(width, at.width, left, part.wide), y: makeNearestAxis(height, at.height, top, part.high), run: sampleNearest };
  }
  if (!p.antialias) {
    return { ...plan, x: makeNeighborAxis(p, width, at.width, left, part.wide), y: makeNeighborAxis(p, height, at.height, top, part.high), run: sampleNeighbors };
  }
  // A pass that keeps the size is left out. Pillow 13 begins with the rows if the height shrinks by over twice as many
  // pixels as the width.
  const x = at.width !== width && makeFilterAxis(p, width, at.width, left, part.wide);
  const y = at.height !== height && makeFilterAxis(p, height, at.height, top, part.high);
  const shorter = height - at.height, narrower = width - at.width;
  return { ...plan, x, y, rowsFirst: p.rows_first_if_tall && x && shorter > 0 && shorter > 2 * narrower, run: runFilters };
}

// Pixels

/** Return pixels of the task's colors (1 or 3 channels), upright: alpha applied, EXIF orientation 1 to 8 undone. */
export function toUpright({ width, height, channels, data, orientation = 1 }, p) {
  const c = p.color === "gray" ? 1 : 3, pixels = toColors(data, channels, width * height, c, GROUNDS[p.alpha]);
  if (orientation === 1) return { width, height, pixels };
  const turned = orientation > 4, w = turned ? height : width, h = turned ? width : height;
  const mirrorX = [2, 3, 7, 8].includes(orientation), mirrorY = [3, 4, 6, 7].includes(orientation);
  const out = new Uint8Array(pixels.length);
  for (let y = 0, to = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const across = turned ? y : x, down = turned ? x : y;
      const from = ((mirrorY ? height - 1 - down : down) * width + (mirrorX ? width - 1 - across : across)) * c;
      for (let k = 0; k < c; k++) out[to++] = pixels[from + k];
    }
  }
  return { width: w, height: h, pixels: out };
}

function toColors(data, channels, count, c, ground) {
  if (channels === c) return data;
  const out = new Uint8Array(count * c);
  for (let i = 0; i < count; i++) {
    let red = data[i * channels], green = red, blue = red;
    if (channels > 2) [green, blue] = [data[i * channels + 1], data[i * channels + 2]];
    if (channels === 4 && ground !== undefined) {
      const alpha = data[4 * i + 3];
      red = blend(red, ground, alpha);
      green = blend(green, ground, alpha);
      blue = blend(blue, ground, alpha);
    }
    if (c === 1) out[i] = channels < 3 ? red : (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16; // ITU-R 601 luma
    else out[3 * i] = red, out[3 * i + 1] = green, out[3 * i + 2] = blue;
  }
  return out;
}

// Pillow's alpha_composite on an opaque ground: 7 more bits, division by 255 by shifts.
function blend(value, ground, alpha) {
  if (alpha === 0) return ground;
  const sum = value * alpha * 128 + ground * (255 - alpha) * 128 + (0x80 << 7);
  return (((sum >> 8) + sum) >> 8) >> 7;
}

// Values

/** Return the number of a float16's bits. */
export function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** Return the bits of the float16 that is nearest to a number, halves to the even one. */
export function toHalf(value) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const sign = (view.getUint16(0) & 0x8000), size = Math.abs(value);
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundHalfEven(size * 2 ** 24);
  const exponent = ((view.getUint16(0) >> 4) & 0x7ff) - 1022; // size is from 0.5 to 1 times 2 to this power
  return sign | (((exponent + 13) << 10) + roundHalfEven((size / 2 ** exponent) * 2048));
}

/** Return a real value as it is stored in a dtype: integers are rounded half to even and clipped. */
export function storeValue(value, dtype) {
  if (LIMITS[dtype]) return Math.min(Math.max(roundHalfEven(value), LIMITS[dtype][0]), LIMITS[dtype][1]);
  switch (dtype) {
    case "float16": return toHalf(value);
    case "bool": return value !== 0 ? 1 : 0;
    case "int64": {
      const whole = roundHalfEven(value);
      return whole >= 2 ** 63 ? 2n ** 63n - 1n : whole <= -(2 ** 63) ? -(2n ** 63n) : BigInt(whole);
    }
    default: return value;
  }
}

const spread = (value, count) => (Array.isArray(value) ? value : Array(count).fill(value));

function makeTable(p, channels) {
  const [scale, mean, std] = [p.scale, p.mean, p.std].map((one) => spread(one, channels));
  return Array.from({ length: channels }, (_, k) =>
    ARRAYS[p.dtype].from({ length: 256 }, (_, v) => storeValue((v * scale[k] - mean[k]) / std[k], p.dtype)));
}

/** Preprocessing by the fields of an image input in task.toml, and `rows_first_if_tall` (Pillow 13 and newer). */
export class Preprocessor {
  /** `tensor` and `convert` (a value of the task's dtype -> one of the tensor's) are given if the model stores others. */
  constructor(parameters, tensor = parameters, convert = null) {
    this.parameters = parameters;
    this.dtype = tensor.dtype;
    this.channels = parameters.color === "gray" ? 1 : 3;
    this.table = makeTable(parameters, this.channels);
    if (convert) this.table = this.table.map((row) => ARRAYS[this.dtype].from(Array.from(row, convert)));
    this.plan = null;
  }

  /**
   * Return the model input of a frame {width, height, channels (1, 3 or 4), data (bytes), orientation (1 to 8)}.
   * `output` is used for it if given. After it `this.plan.placement` says where the picture is in the input.
   */
  run(frame, output = this.makeOutput()) {
    const { width, height, pixels } = toUpright(frame, this.parameters);
    if (this.plan?.width !== width || this.plan.height !== height) this.plan = makePlan(this.parameters, width, height);
    const image = this.plan.run(this.plan, pixels, this.channels);
    this.write(image, output);
    return output;
  }

  makeOutput() {
    const [high, wide] = this.parameters.size;
    return new ARRAYS[this.dtype](high * wide * this.channels);
  }

  write(image, output) {
    const { x0, y0, part } = this.plan, p = this.parameters, [high, wide] = p.size, c = this.channels;
    const planar = p.layout === "NCHW", step = planar ? 1 : c, covered = part.wide === wide && part.high === high;
    for (let k = 0; k < c; k++) {
      const table = this.table[k], base = planar ? k * high * wide : k, from = p.color === "BGR" ? 2 - k : k;
      if (!covered) {
        const fill = table[p.resize === "pad" ? p.pad_value : 0];
        for (let i = 0, to = base; i < high * wide; i++, to += step) output[to] = fill;
      }
      for (let y = 0; y < part.high; y++) {
        let to = base + ((y0 + y) * wide + x0) * step;
        for (let x = 0, at = y * part.wide * c + from; x < part.wide; x++, to += step, at += c) output[to] = table[image[at]];
      }
    }
  }
}
