// Samples -> tensors as the runtime takes them, and its outputs -> arrays of the source model.
import { ARRAYS, Preprocessor, fromHalf, roundHalfEven, storeValue } from "./preprocess.js";

const WHOLE_LIMITS = { uint8: [0, 255], int8: [-128, 127], uint16: [0, 65535], int16: [-32768, 32767], int32: [-2147483648, 2147483647] };
const isFloat = (dtype) => dtype.startsWith("float");
const count = (shape) => shape.reduce((product, size) => product * size, 1);

/** Return a stored value as a number. */
export function toNumber(value, dtype) {
  if (dtype === "float16" && Number.isInteger(value)) return fromHalf(value);
  return Number(value);
}

/** Return all values of a tensor as numbers. A float16 is stored as its bits, unless the browser has Float16Array. */
export function toNumbers({ data, dtype }) {
  const bits = dtype === "float16" && data instanceof Uint16Array;
  return bits ? Float64Array.from(data, fromHalf) : Float64Array.from(data, Number);
}

// How a value of the source's dtype is stored in a tensor, as AppTensor of the contract says.
function makeConverter(from, tensor) {
  const { dtype, quantization } = tensor;
  if (from === dtype) return null;
  if (!quantization) return (value) => storeValue(isFloat(from) && !isFloat(dtype) && dtype !== "bool" ? Math.trunc(toNumber(value, from)) : toNumber(value, from), dtype);
  const round = from === "float64" ? (value) => value : Math.fround;
  const scale = round(quantization.scale), [least, most] = WHOLE_LIMITS[dtype];
  return (value) => Math.min(Math.max(roundHalfEven(round(toNumber(value, from) / scale)) + quantization.zero_point, least), most);
}

function store(values, from, tensor) {
  const convert = makeConverter(from, tensor), Kind = ARRAYS[tensor.dtype];
  return convert ? Kind.from(Array.from(values, convert)) : values instanceof Kind ? values : Kind.from(values);
}

// Audio: an array of numbers from -1 to 1
function prepareAudio(samples, p) {
  const spare = samples.length - p.window, centered = p.align === "center";
  const start = centered && spare > 0 ? Math.floor(spare / 2) : 0, have = Math.min(samples.length, p.window);
  const before = centered ? Math.floor((p.window - have) / 2) : 0, values = new Float64Array(p.window);
  for (let i = 0; i < have; i++) values[before + i] = samples[start + i];
  return Array.from(values, (value) => storeValue((value * p.scale - p.mean) / p.std, p.dtype));
}

// Tokens: ids, and optionally a mask and segments
function fillTokens(row, value, p) {
  const Kind = ARRAYS[p.dtype], cast = Kind === BigInt64Array ? BigInt : Number, kept = Array.from(row).slice(0, p.length);
  const missing = Array(p.length - kept.length).fill(value);
  return Kind.from((p.pad_side === "right" ? [...kept, ...missing] : [...missing, ...kept]).map(cast));
}

/** The inputs of a model, by its contract (edgewright-app.json). */
export class Inputs {
  constructor(contract) {
    this.inputs = contract.inputs;
    this.tokens = contract.inputs.map((one) => one.preprocessing).filter((one) => one?.kind === "tokens");
    this.image = null;
    this.preprocessors = contract.inputs.map(({ tensor, preprocessing }) => {
      if (preprocessing?.kind !== "image") return null;
      const parameters = { ...preprocessing, rows_first_if_tall: contract.first_pass === "rows-if-tall" };
      return (this.image = new Preprocessor(parameters, tensor, makeConverter(preprocessing.dtype, tensor)));
    });
  }

  /**
   * Return {name: {dtype, shape, data}} for a sample: by the name of each input in the task a frame, numbers from -1 to
   * 1, ids, or values in the source's order.
   */
  make(sample) {
    return Object.fromEntries(this.inputs.map(({ tensor, preprocessing: p }, index) => {
      const data = this.preprocessors[index]?.run(sample[tensor.source]) ?? this.makePlain(sample, tensor, p);
      if (data.length !== count(tensor.shape)) throw new RangeError(`${tensor.source} has ${data.length} values, the model takes ${tensor.shape}`);
      return [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data }];
    }));
  }

  makePlain(sample, tensor, p) {
    const given = sample[tensor.source];
    if (p?.kind === "audio") return store(prepareAudio(given, p), p.dtype, tensor);
    if (p?.kind === "tokens") return store(fillTokens(given, p.pad, p), p.dtype, tensor);
    const owner = this.tokens.find((one) => one.mask === tensor.source || one.segments === tensor.source);
    if (owner) {
      const row = given ?? Array(sample[owner.name].length).fill(owner.mask === tensor.source ? 1 : 0);
      return store(fillTokens(row, 0, owner), owner.dtype, tensor);
    }
    if (given === undefined) throw new RangeError(`the input ${tensor.source} is missing`);
    return store(toArtifactOrder(given, tensor), tensor.source_dtype, tensor);
  }
}

// Axis i of the artifact is the source's axis axes[i].
function toArtifactOrder(values, { axes, source_shape: shape }) {
  return reorder(values, axes.map((axis) => shape[axis]), strides(shape, axes));
}

function strides(shape, axes) {
  const steps = shape.map((_, axis) => count(shape.slice(axis + 1)));
  return axes.map((axis) => steps[axis]);
}

function reorder(values, shape, steps) {
  if (steps.every((step, axis) => step === count(shape.slice(axis + 1)))) return values;
  const out = new values.constructor(values.length), at = shape.map(() => 0);
  for (let to = 0; to < out.length; to++) {
    out[to] = values[at.reduce((sum, place, axis) => sum + place * steps[axis], 0)];
    for (let axis = shape.length - 1; axis >= 0 && ++at[axis] === shape[axis]; axis--) at[axis] = 0;
  }
  return out;
}

/** Return {shape, values} of an output in the order of the source model; integers of quantized models as real values. */
export function toSource(data, tensor) {
  const { axes, source_shape: shape, quantization, dtype, source_dtype: wanted } = tensor;
  let values = toNumbers({ data, dtype });
  if (quantization && wanted !== dtype) {
    const scale = Math.fround(quantization.scale);
    values = values.map((value) => Math.fround(Math.fround(value - quantization.zero_point) * scale));
  }
  const moved = axes.map((axis) => shape[axis]), back = axes.map((_, axis) => axes.indexOf(axis));
  return { shape, values: reorder(values, shape, strides(moved, back)) };
}
