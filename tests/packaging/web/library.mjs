// Runs the library of web projects in node: node library.mjs FOLDER COMMAND, on the files of the folder.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, command] = process.argv;
const { Preprocessor } = await import(pathToFileURL(`${folder}/edgewright/preprocess.js`));
const { Inputs, toSource } = await import(pathToFileURL(`${folder}/edgewright/tensors.js`));
const { readAnswer } = await import(pathToFileURL(`${folder}/edgewright/answers.js`));
const { checkInputs, computeDifference, readGolden } = await import(pathToFileURL(`${folder}/edgewright/golden.js`));
const cases = command === "golden" ? null : JSON.parse(readFileSync(`${folder}/cases.json`));

const COMMANDS = {
  // The bytes of each model input against inputs.bin: the numbers of the cases that differ.
  pictures() {
    const pixels = readFileSync(`${folder}/pixels.bin`), inputs = readFileSync(`${folder}/inputs.bin`);
    let read = 0, wanted = 0;
    return cases.map((one, index) => {
      const { width, height, channels, orientation } = one;
      const data = new Uint8Array(pixels.subarray(read, (read += width * height * channels)));
      const want = inputs.subarray(wanted, (wanted += one.bytes));
      try {
        const got = new Preprocessor(one.parameters).run({ width, height, channels, orientation, data });
        return Buffer.compare(Buffer.from(got.buffer), want) === 0 ? -1 : index;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        return one.bytes === 0 ? -1 : index;
      }
    }).filter((index) => index >= 0);
  },
  // The bytes of each tensor of a sample, in hexadecimal.
  tensors: () => cases.map(({ contract, sample }) => Object.fromEntries(
    Object.entries(new Inputs(contract).make(sample)).map(([name, { data }]) => [name, Buffer.from(data.buffer).toString("hex")]))),
  sources: () => cases.map(({ tensor, hex }) => {
    const bytes = Buffer.from(hex, "hex"), Kind = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array }[tensor.dtype];
    return Array.from(toSource(new Kind(new Uint8Array(bytes).buffer), tensor).values);
  }),
  answers: () => cases.map(({ contract, outputs, context }) => readAnswer(contract, Object.fromEntries(
    Object.entries(outputs).map(([name, { shape, values }]) => [name, { shape, values: Float64Array.from(values) }])), context)),
  // What the self-test of a project says of its preprocessing, and of outputs of which one value is wrong.
  async golden() {
    const load = async (name) => { const { buffer, byteOffset, length } = readFileSync(`${folder}/${name}`); return buffer.slice(byteOffset, byteOffset + length); };
    const golden = await readGolden(load), contract = JSON.parse(readFileSync(`${folder}/edgewright-app.json`));
    const [name] = Object.keys(golden.outputs), own = golden.samples[0].outputs[name], spoilt = { ...own, data: own.data.slice() };
    spoilt.data[0] += 1;
    return { ...checkInputs(new Inputs(contract), golden), same: computeDifference(own, own), spoilt: computeDifference(own, spoilt) };
  },
};
console.log(JSON.stringify(await COMMANDS[command]()));
