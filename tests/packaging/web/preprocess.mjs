// Compare preprocess.js with the reference: node preprocess.mjs FOLDER, which has cases.json, pixels.bin and inputs.bin.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const { Preprocessor } = await import(pathToFileURL(`${folder}/edgewright/preprocess.js`));
const cases = JSON.parse(readFileSync(`${folder}/cases.json`)), pixels = readFileSync(`${folder}/pixels.bin`), inputs = readFileSync(`${folder}/inputs.bin`);
let read = 0, wanted = 0;
const different = cases.map((one, index) => {
  const { width, height, channels, orientation } = one;
  const data = new Uint8Array(pixels.subarray(read, (read += width * height * channels)));
  let got = null;
  try {
    got = new Preprocessor(one.parameters).run({ width, height, channels, orientation, data });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  const want = inputs.subarray(wanted, (wanted += one.bytes));
  if (got === null) return one.rejected ? -1 : index;
  return !one.rejected && Buffer.compare(Buffer.from(got.buffer), want) === 0 ? -1 : index;
}).filter((index) => index >= 0);
console.log(JSON.stringify({ compared: cases.length, different }));
