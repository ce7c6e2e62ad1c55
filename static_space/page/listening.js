/* How a recording was made, and its windows: what conditions_attention_asd.py and preparation_attention_asd.py find in samples.
   The limits come from there, by manifest.json. */

// Goes through samples at the model's rate once. `block` samples are looked at together, as the pipeline reads them.
export function listen(samples, block, facts) {
  const rate = facts.sampling_rate, sound = findSound(samples, facts);
  let clipped = 0;
  for (let at = 0; at < samples.length; at += block) clipped += countClipped(samples.subarray(at, at + block), facts);
  return {
    ...sound,
    seconds: (samples.length - sound.silent) / rate,
    silentSeconds: sound.silent / rate,
    clippedShare: clipped / Math.max(samples.length, 1),
    humHz: findHum(samples.subarray(0, Math.floor(facts.hum.seconds * rate)), facts),
  };
}

// Where the sound lies between the silences at both ends, and how many samples are silent.
export function findSound(samples, { silence, shortest_silence: shortest }) {
  let first = -1, last = -1, silent = 0;
  for (let at = 0; at < samples.length; at++) {
    if (Math.abs(samples[at]) <= silence) continue;
    const gap = at - last - 1;
    if (gap >= shortest) silent += gap;
    if (first < 0) first = at;
    last = at;
  }
  if (first < 0) return { first: 0, stop: samples.length, silent: samples.length };
  const rest = samples.length - 1 - last, isQuietAtEnd = rest >= shortest;
  return { first: first >= shortest ? first : 0, stop: isQuietAtEnd ? last + 1 : samples.length, silent: silent + (isQuietAtEnd ? rest : 0) };
}

// Samples that are cut off at the recorder's limit: runs of equal ones near the peak, which are reached in a jump.
export function countClipped(samples, { clipping }) {
  let peak = 0, count = 0;
  for (const value of samples) peak = Math.max(peak, Math.abs(value));
  if (peak < clipping.min_peak) return 0;
  const limit = Math.fround((1 - clipping.band) * peak), jump = Math.fround(clipping.jump * peak);
  for (let at = 0; at < samples.length;) {
    const value = samples[at];
    let end = at + 1;
    if (Math.abs(value) >= limit) {
      while (end < samples.length && samples[end] === value) end++;
      const step = Math.fround(Math.abs(value - samples[Math.max(at - 1, 0)]));
      if (end - at >= clipping.run && step >= jump) count += end - at;
    }
    at = end;
  }
  return count;
}

// The frequency of the mains, if there are lines at its multiples; 0 where there are none.
export function findHum(samples, { sampling_rate: samplingRate, hum }) {
  const step = Math.floor(samplingRate / hum.rate), slow = means(samples, Math.max(step, 1)), rate = samplingRate / Math.max(step, 1);
  if (slow.length < 2 * rate) return 0;
  const perHz = slow.length / rate, line = Math.max(roundEven(0.3 * perHz), 1), around = roundEven(10 * perHz);
  for (let at = 0; at < slow.length; at++) slow[at] *= 0.5 - 0.5 * Math.cos(2 * Math.PI * at / (slow.length - 1));
  const known = new Map(), power = bin => {
    if (!known.has(bin)) known.set(bin, 20 * Math.log10(magnitude(slow, bin) + 1e-9));
    return known.get(bin);
  };
  const range = (center, reach) => Array.from({ length: 2 * reach + 1 }, (_, place) => power(center - reach + place));
  const lines = frequency => Array.from({ length: hum.orders }, (_, order) => roundEven((order + 1) * frequency * perHz))
    .filter(center => Math.max(...range(center, line)) - median(range(center, around)) >= hum.db).length;
  const found = hum.hz.map(frequency => [frequency, lines(frequency)]).reduce((best, one) => one[1] > best[1] ? one : best);
  return found[1] >= hum.lines ? found[0] : 0;
}

function means(samples, step) {
  const slow = new Float64Array(Math.floor(samples.length / step));
  for (let at = 0; at < slow.length; at++) {
    for (let place = 0; place < step; place++) slow[at] += samples[at * step + place];
    slow[at] /= step;
  }
  return slow;
}

// Of one line of the discrete Fourier transform.
function magnitude(samples, bin) {
  const turn = 2 * Math.PI * bin / samples.length, [c, s] = [Math.cos(turn), Math.sin(turn)];
  let [x, y, real, imaginary] = [1, 0, 0, 0];
  for (const value of samples) {
    real += value * x;
    imaginary += value * y;
    [x, y] = [x * c - y * s, x * s + y * c];
  }
  return Math.hypot(real, imaginary);
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

// As Python rounds: halves to the even number.
export function roundEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// Windows of one clip, one after the other; the last one ends with the sound. { start, samples } each.
export function cutWindows(samples, { first, stop }, facts) {
  const length = facts.clip_length, windows = [];
  let start = first;
  for (; start + length <= stop; start += length) windows.push(start);
  if (start < stop) windows.push(Math.max(stop - length, first));
  return windows.map(start => ({ start, samples: withoutOffset(samples.subarray(start, Math.min(start + length, stop)), facts) }));
}

export function withoutOffset(samples, { offset }) {
  const { mean, deviation } = spread(samples);
  if (Math.abs(mean) <= offset.most * deviation) return samples;
  const steps = Math.fround(roundEven(mean / offset.step) * offset.step);
  return samples.map(value => value - steps);
}

export function isSilent(samples, { silence, offset }) {
  let peak = 0;
  for (const value of samples) peak = Math.max(peak, Math.abs(value));
  return peak <= silence || spread(samples).deviation < offset.step;
}

function spread(samples) {
  let sum = 0, squares = 0;
  for (const value of samples) sum += value;
  const mean = sum / samples.length;
  for (const value of samples) squares += (value - mean) ** 2;
  return { mean, deviation: Math.sqrt(squares / samples.length) };
}

// A window as long as the network's clip: repeated, or filled with zeros.
export function fitted(samples, facts) {
  const clip = new Float32Array(facts.clip_length);
  if (samples.length >= clip.length || facts.short_clips === "zeros") clip.set(samples.subarray(0, clip.length));
  else for (let at = 0; at < clip.length; at++) clip[at] = samples[at % samples.length];
  return clip;
}

// A window with its mirrored end behind it: its first frames are those of the window alone.
export function mirrored(samples, facts) {
  const clip = new Float32Array(facts.clip_length);
  clip.set(samples);
  for (let place = 0; place < facts.n_fft / 2 && samples.length + place < clip.length; place++)
    clip[samples.length + place] = samples[Math.max(samples.length - 2 - place, 0)];
  return clip;
}
