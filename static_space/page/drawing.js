/* What the pictures need of a window: as the Space's drawing.py prepares it. */

import { fitted } from "./listening.js";

// The payload of a sound's answer for the pictures: `chosen` is the window whose pictures are shown.
export async function answerOf(model, name, { result, heard, samples }, chosen = highest(result)) {
  const { facts } = model, machine = facts.machines.find(one => one.name === result.machine);
  const start = result.windows.length ? Math.round(result.windows[chosen].start_s * facts.sampling_rate) : 0;
  const window = samples.subarray(start, start + facts.clip_length), same = heard[result.windows.length ? chosen : 0];
  // A window without its offset, or without the silence before it, is another one.
  const isSame = same.start === start && same.samples.buffer === samples.buffer && same.samples.length === window.length;
  const outputs = isSame ? same.outputs : await model.hear(fitted(window, facts));
  return { chosen, name, result, typical: machine?.typical ?? null, view: view(facts, window, start, outputs, machine) };
}

export function highest(result) {
  return result.windows.reduce((best, window, place, all) => (window.score ?? -1) > (all[best].score ?? -1) ? place : best, 0);
}

function view(facts, window, start, outputs, machine) {
  const frames = Math.floor(window.length / facts.hop_length) + 1, bins = facts.mel_frequencies.length;
  const cut = (tensor, channel = 0) => cells(tensor.data, channel, bins, frames, tensor.dims[tensor.dims.length - 1]);
  const level = cut(outputs.log_mel), steps = Int16Array.from(window, value => Math.round(Math.min(Math.max(value, -1), 1) * 32767));
  const layers = { log_mel: levelLayer(level, Math.floor(quantile(level.values, 0.02)), Math.ceil(largest(level.values)) + 1) };
  facts.representations.forEach((name, channel) => {
    if (name === "wavegram") {
      const filters = cut(outputs.representations, channel);
      layers.wavegram = layer(filters, 0, Math.max(quantile(filters.values, 0.995), 1e-6), "", "filter");
    }
    if (outputs.attention_maps)
      layers[`attention_${name}`] = layer(cut(outputs.attention_maps, channel), 0.5, 1, "", name === "log_mel" ? "hertz" : "filter");
  });
  if (machine) layers.above_normal = centered(averaged(minus(level, machine.normal_db)));
  return {
    start_s: start / facts.sampling_rate, rate: facts.sampling_rate, hop_s: facts.hop_length / facts.sampling_rate,
    mel_hz: facts.mel_frequencies.map(tenth), mean_db: means(level).map(tenth),
    samples: base64(new Uint8Array(steps.buffer)), peak: Math.max(largest(steps.map(Math.abs)), 1), layers,
    normal_db: machine ? machine.normal_db.map(tenth) : null,
  };
}

const tenth = value => Math.round(value * 10) / 10;

// (rows, frames) of a map of which there are more channels and frames.
function cells(data, channel, rows, frames, width) {
  const values = new Float32Array(rows * frames);
  for (let row = 0; row < rows; row++) {
    const at = (channel * rows + row) * width;
    values.set(data.subarray(at, at + frames), row * frames);
  }
  return { values, rows, frames };
}

function means({ values, rows, frames }) {
  return Array.from({ length: rows }, (_, row) => values.subarray(row * frames, (row + 1) * frames).reduce((sum, value) => sum + value, 0) / frames);
}

function minus({ values, rows, frames }, normal) {
  return { rows, frames, values: values.map((value, place) => value - normal[Math.floor(place / frames)]) };
}

// Over 3 bins and 7 frames.
function averaged({ values, rows, frames }) {
  const smooth = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let frame = 0; frame < frames; frame++) {
      let sum = 0, count = 0;
      for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, rows - 1); y++)
        for (let x = Math.max(frame - 3, 0); x <= Math.min(frame + 3, frames - 1); x++, count++) sum += values[y * frames + x];
      smooth[row * frames + frame] = sum / count;
    }
  return { values: smooth, rows, frames };
}

function centered(difference) {
  const reach = Math.max(6, quantile(difference.values.map(Math.abs), 0.99));
  return levelLayer(difference, -reach, reach);
}

function levelLayer(map, low, high) { return layer(map, low, high, "dB", "hertz"); }

// In 256 steps from low to high.
function layer({ values, rows, frames }, low, high, unit, axis) {
  const steps = Uint8Array.from(values, value => Math.min(Math.max(Math.round((value - low) / (high - low) * 255), 0), 255));
  return { rows, frames, low, high, unit, axis, cells: base64(steps) };
}

function quantile(values, share) {
  const sorted = Float32Array.from(values).sort(), place = share * (sorted.length - 1), below = Math.floor(place);
  return sorted[below] + (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]) * (place - below);
}

function largest(values) { return values.reduce((most, value) => Math.max(most, value), -Infinity); }

function base64(raw) {
  const text = [];
  for (let at = 0; at < raw.length; at += 8192) text.push(String.fromCharCode(...raw.subarray(at, at + 8192)));
  return btoa(text.join(""));
}
