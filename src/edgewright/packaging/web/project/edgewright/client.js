// The page's side: a worker per model that is open, the self-test, and the choice of a unit.

export const UNITS = ["webgpu", "wasm"];

/** A worker with the pipeline. */
export class Client {
  constructor() {
    this.calls = new Map();
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.calls.get(id);
      this.calls.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.calls.values()) reject(new Error(event.message ?? "the worker failed"));
      this.calls.clear();
    };
  }

  call(call, value, transfer = []) {
    const id = crypto.getRandomValues(new Uint32Array(1))[0];
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.worker.postMessage({ id, call, value }, transfer);
    });
  }

  close() { this.worker.terminate(); }
}

// Each unit has a worker of its own: one that fails does not stop the others.
async function inWorker(work) {
  const client = new Client();
  try {
    await client.call("load");
    return await work(client);
  } finally {
    client.close();
  }
}

/**
 * Check preprocessing, and each unit by the golden vectors (edgewright.selftest/1). The fastest unit that is equal is
 * `chosen`; null without one. `report` is called with the name of each unit before it is tested.
 */
export async function runSelfTest(report = () => {}) {
  const result = await inWorker((client) => client.call("inputs")), units = [];
  for (const unit of UNITS) {
    report(unit);
    units.push(await inWorker((client) => client.call("test", unit)).catch((error) => ({
      unit, equal: false, max_abs: {}, latency_ms: null, load_ms: null, placement: {}, error: error.message,
    })));
  }
  const [fastest] = units.filter((one) => one.equal).sort((a, b) => a.latency_ms - b.latency_ms);
  return { ...result, units, chosen: result.inputs_bitwise && fastest ? fastest.unit : null };
}

/**
 * Open the model on the unit that the self-test chose, after it has reproduced a golden vector again; if it does not,
 * on the next equal one. Returns {client, contract, unit}.
 */
export async function openChosen({ chosen, units }) {
  const others = units.filter((one) => one.equal && one.unit !== chosen).map((one) => one.unit), failed = [];
  for (const unit of [chosen, ...others]) {
    const client = new Client();
    try {
      const contract = await client.call("load");
      await client.call("use", unit);
      return { client, contract, unit };
    } catch (error) {
      failed.push(error.message);
      client.close();
    }
  }
  throw new Error(`no unit reproduces the golden vectors: ${failed.join("; ")}`);
}
