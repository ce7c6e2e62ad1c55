/* A recording's answer, in the words and with the fields of the pipeline's. */

import { filled } from "./format.js";
import { cutWindows, fitted, isSilent, listen, median, mirrored } from "./listening.js";

const CANNOT_TELL = "cannot tell";
// So that the browser stays awake between two windows.
const breathe = () => new Promise(resolve => setTimeout(resolve));

// The network's outputs of every window. `progress` gets how many are done, and of how many.
async function hearWindows(model, windows, progress) {
  const { facts } = model, bins = facts.mel_frequencies.length, heard = [];
  for (const { start, samples } of windows) {
    progress(heard.length, windows.length);
    await breathe();
    const outputs = await model.hear(fitted(samples, facts)), length = samples.length;
    const frames = length < facts.clip_length ? 1 + Math.floor(length / facts.hop_length) : facts.frames;
    let spectra = outputs.spectra.data;
    if (length < facts.clip_length && length >= facts.shortest_seconds * facts.sampling_rate) {
      const whole = (await model.hear(mirrored(samples, facts))).log_mel.data;
      spectra = await model.statistics(firstFrames(whole, bins, frames), bins);
    }
    const { embeddings, cosines } = outputs, all = [embeddings.data, cosines.data, spectra];
    heard.push({
      start, samples, outputs, frames, spectra, embeddings: embeddings.data, cosines: cosines.data,
      isSilent: isSilent(samples, facts), isFinite: all.every(values => values.every(Number.isFinite)),
    });
  }
  return heard;
}

function firstFrames(values, rows, frames) {
  const width = values.length / rows, first = new Float32Array(rows * frames);
  for (let row = 0; row < rows; row++) first.set(values.subarray(row * width, row * width + frames), row * frames);
  return first;
}

function joined(arrays) {
  const whole = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) { whole.set(array, at); at += array.length; }
  return whole;
}

// { result, heard, samples } of a sound as read() gives it. `machine` is a place among the machines, -1 for none.
export async function judge(model, sound, machine, rate, progress = () => {}) {
  const { facts } = model, samples = await model.resample(sound.samples, sound.rate);
  if (!samples.length) throw new Error("is empty at the model's sampling rate. Expected one sample or more");
  const frames = Math.min(Math.round(facts.block.seconds * sound.rate), Math.floor(facts.block.samples / sound.count));
  const conditions = listen(samples, Math.ceil(frames * facts.sampling_rate / sound.rate), facts);
  const heard = await hearWindows(model, cutWindows(samples, conditions, facts), progress);
  const judged = heard.filter(window => !window.isSilent && window.isFinite);
  const decided = judged.length ? await decide(model, judged, conditions, machine, rate) : null;
  const result = answer(model.facts, { decided, heard, judged, conditions, samples, machine, rate, notes: sound.notes });
  return { result, heard, samples };
}

function decide(model, judged, { seconds, silentSeconds, clippedShare, humHz }, machine, rate) {
  const of = name => joined(judged.map(window => window[name]));
  return model.decide({
    embeddings: of("embeddings"), cosines: of("cosines"), spectra: of("spectra"), windows: judged.length,
    frames: judged.reduce((sum, window) => sum + window.frames, 0), machine, rate,
    conditions: [seconds, silentSeconds, clippedShare, humHz],
  });
}

// Decision and Result of the pipeline as one object.
function answer(facts, { decided, heard, judged, conditions, samples, machine, rate, notes }) {
  const name = place => place < 0 ? null : facts.machines[place].name, seconds = at => at / facts.sampling_rate;
  const said = decided ? notesOf(facts, decided, conditions, rate)
    : [facts.notes[heard.some(window => window.isSilent) ? "silent" : "not finite"]];
  const isRefused = !decided || facts.note_keys.some((key, place) => facts.refusals.includes(key) && decided.notes[place]);
  const isMeasured = !isRefused && decided.judged_as >= 0, highest = isMeasured ? largest(decided.scores) : -1;
  const known = value => isMeasured && decided.is_known ? value : null;
  const decision = {
    verdict: decided ? facts.verdicts[decided.verdict] : CANNOT_TELL,
    score: isMeasured ? decided.scores[highest] : null,
    threshold: known(Number.isFinite(decided?.threshold) ? decided.threshold : null),
    p_value: known(decided?.p_values[highest]),
    false_alarm_rate: rate,
    machine: isRefused ? name(machine) : name(decided.judged_as),
    predicted_machine: isRefused ? null : name(decided.predicted_machine),
    similarity: isRefused ? null : decided.similarity,
    method: isMeasured ? facts.machines[decided.judged_as].method : null,
    calibration_clips: isMeasured ? facts.machines[decided.judged_as].calibration_clips : 0,
    backend: facts.backend,
    note: [...notes, ...said].join("; ") || null,
  };
  const windows = heard.map(window => {
    const place = judged.indexOf(window), isMeasuredHere = isMeasured && place >= 0;
    return {
      start_s: seconds(window.start), end_s: Math.min(seconds(window.start) + seconds(facts.clip_length), seconds(conditions.stop)),
      score: isMeasuredHere ? decided.scores[place] : null,
      p_value: place >= 0 ? known(decided?.p_values[place]) : null,
      verdict: place >= 0 && !isRefused ? facts.verdicts[decided.window_verdicts[place]] : CANNOT_TELL,
    };
  });
  return {
    ...decision, duration_s: seconds(samples.length), reason: null, regions: [],
    level_db: levelOf(facts, heard), windows: windows.length > 1 ? windows : [],
  };
}

// The median over the compared bins of the mean log-mel: of all windows, the silent ones too.
function levelOf(facts, heard) {
  const means = Array.from({ length: facts.kept_bins }, (_, bin) => heard.reduce((sum, window) => sum + window.spectra[bin], 0) / heard.length);
  const level = median(means);
  return Number.isFinite(level) ? level : null;
}

function largest(values) { return values.reduce((best, value, place) => value > values[best] ? place : best, 0); }

// The sentences that the decision's flags stand for.
function notesOf(facts, decided, conditions, rate) {
  const values = {
    nearest: facts.machines[decided.nearest].name, machine: facts.machines[Math.max(decided.judged_as, 0)].name,
    level_db: Math.abs(decided.level_db), lowest_percent: decided.lowest_percent, band_khz: decided.band_khz,
    clipped_percent: 100 * conditions.clippedShare, hum_hz: conditions.humHz, seconds: conditions.seconds,
    silent_seconds: conditions.silentSeconds, shortest_seconds: facts.shortest_seconds,
    duration_s: conditions.seconds + conditions.silentSeconds,
  };
  values.limit = filled(facts.band_limit, values);
  const warning = decided.judged_as < 0 ? null : facts.machines[decided.judged_as].warnings[facts.false_alarm_rates.findIndex(one => one.rate === rate)];
  return facts.note_keys.flatMap((key, place) => {
    const template = key === null ? warning : facts.notes[key];
    return decided.notes[place] && template ? [key === null ? template : filled(template, values)] : [];
  });
}
