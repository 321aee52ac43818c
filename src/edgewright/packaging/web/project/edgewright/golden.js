// Golden vectors: pictures, and the inputs and outputs that follow from them.
import { ARRAYS } from "./preprocess.js";
import { toNumbers } from "./tensors.js";

/** Return the samples of golden/manifest.json with their arrays. `load` returns the bytes of a file as an ArrayBuffer. */
export async function readGolden(load) {
  const manifest = JSON.parse(new TextDecoder().decode(await load("golden/manifest.json")));
  const read = async (files, kinds) => Object.fromEntries(await Promise.all(Object.entries(files).map(async ([name, file]) => {
    const { dtype, shape } = kinds[name];
    return [name, { dtype, shape, data: new ARRAYS[dtype](await load(`golden/${file}`)) }];
  })));
  const samples = await Promise.all(manifest.samples.map(async (one) => ({
    frame: one.picture && { ...one, data: new Uint8Array(await load(`golden/${one.picture}`)) },
    inputs: await read(one.inputs, manifest.inputs),
    outputs: await read(one.outputs, manifest.outputs),
  })));
  return { ...manifest, samples };
}

const bytes = ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** Return whether two tensors are equal bit for bit. */
export function isSame(a, b) {
  const [one, other] = [bytes(a), bytes(b)];
  return one.length === other.length && one.every((value, i) => value === other[i]);
}

/** Return the largest absolute difference of two tensors; Infinity if sizes differ, or one value is not a number. */
export function computeDifference(a, b) {
  const one = toNumbers(a), other = toNumbers(b);
  if (one.length !== other.length) return Infinity;
  return one.reduce((worst, value, i) => {
    const same = Object.is(value, other[i]) || value === other[i], apart = Math.abs(value - other[i]);
    return Math.max(worst, same ? 0 : Number.isNaN(apart) ? Infinity : apart);
  }, 0);
}

/** Return the number of pictures, and of those whose inputs differ from the golden ones in any bit. */
export function checkInputs(inputs, golden) {
  const image = inputs.inputs.find((one) => one.preprocessing?.kind === "image")?.tensor;
  const drawn = golden.samples.filter((one) => one.frame);
  const different = drawn.filter((one) => !isSame({ data: inputs.image.run(one.frame) }, one.inputs[image.name]));
  return { pictures: drawn.length, different: different.length };
}

/** Run the golden inputs, and return {equal, max_abs: by output, times_ms}. */
export async function checkOutputs(engine, golden, samples = golden.samples) {
  const worst = Object.fromEntries(Object.keys(golden.outputs).map((name) => [name, 0])), times = [];
  for (const { inputs, outputs } of samples) {
    const began = performance.now(), got = await engine.run(inputs);
    times.push(performance.now() - began);
    for (const name of Object.keys(worst)) worst[name] = Math.max(worst[name], computeDifference(got[name], outputs[name]));
  }
  return { equal: Object.keys(worst).every((name) => worst[name] <= golden.tolerance[name]), max_abs: worst, times_ms: times };
}
