// Latency by phase of the last inferences.

const KEPT = 200;

/** Return the value below which this share of the sorted values is. */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

export class Monitor {
  constructor() { this.phases = {}; this.count = 0; }

  /** Add the milliseconds of one inference by phase. */
  add(times) {
    this.count++;
    for (const [phase, time] of Object.entries(times)) {
      const row = (this.phases[phase] ??= []);
      row.push(time);
      if (row.length > KEPT) row.shift();
    }
  }

  /** Return {count, phases: {name: {median_ms, p95_ms}}} of the last inferences. */
  read() {
    const phases = Object.fromEntries(Object.entries(this.phases).map(([phase, row]) => {
      const sorted = [...row].sort((a, b) => a - b);
      return [phase, { median_ms: quantile(sorted, 0.5), p95_ms: quantile(sorted, 0.95) }];
    }));
    return { count: this.count, phases };
  }
}
