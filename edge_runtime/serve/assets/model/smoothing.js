// The temporal filter of live frames: edge_runtime/stream/smoothing.py, number by number.

const SECONDS = 0.5;
const sigmoid = (logit) => (logit >= 0 ? 1 / (1 + Math.exp(-logit)) : Math.exp(logit) / (1 + Math.exp(logit)));

export class Smoother {
  constructor() {
    this.logit = null;
    this.last = 0;
    this.frames = [];
  }

  /** A frame's logit at `when` (seconds): the smoothed probability, and the range of the last frames' own. */
  add(logit, when) {
    const pause = when - this.last;
    if (this.logit === null || pause > 10 * SECONDS) {
      this.logit = logit;
      this.frames = [];
    } else {
      this.logit += (1 - Math.exp(-Math.max(pause, 0) / SECONDS)) * (logit - this.logit);
    }
    this.last = when;
    this.frames.push([when, sigmoid(logit)]);
    this.frames = this.frames.filter(([time]) => time >= when - 3 * SECONDS);
    const values = this.frames.map(([, probability]) => probability);
    const recent = values.length > 1 ? { low: Math.min(...values), high: Math.max(...values), frames: values.length } : null;
    return { smoothed: sigmoid(this.logit), recent };
  }
}
