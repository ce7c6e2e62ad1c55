/* From a file to one channel of samples at the file's own rate. */

import { isWav, readWav } from "./wav.js";

// Of what only the browser decodes, and the rate is not to be found.
const BROWSER_RATE = 48_000, MAX_AMPLITUDE = 16;

// { rate, samples, count, notes } of the bytes of a file; `count` is the number of its channels.
export async function read(bytes, facts) {
  if (!bytes.length) throw new Error("it holds no samples");
  const head = String.fromCharCode(...bytes.subarray(0, 64)).trimStart().toLowerCase();
  if (["<!doctype", "<html", "<?xml"].some(begin => head.startsWith(begin))) throw new Error("it is a page of HTML or XML, not a sound");
  const sound = (isWav(bytes) ? readWav(bytes, facts.channels === "mean" ? Infinity : 1) : null) ?? await decoded(bytes);
  const { channels, rate } = sound;
  if (!facts.rates.includes(rate))
    throw new Error(`it has a sampling rate of ${rate} Hz. This page takes ${facts.rates.join(", ")} Hz. Save it at one of these`);
  if (!channels[0].length) throw new Error("it holds no samples");
  const seconds = channels[0].length / rate;
  if (seconds > facts.max_seconds) throw new Error(`longer than ${facts.max_seconds / 60} minutes. Cut it, or score it with score.py, which takes 24 hours`);
  const samples = facts.channels === "mean" ? mean(channels) : channels[0];
  checkAmplitude(samples);
  return { rate, samples, count: sound.count, notes: sound.notes };
}

function mean(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, place) => channels.reduce((sum, channel) => Math.fround(sum + channel[place]), 0) / channels.length);
}

function checkAmplitude(samples) {
  let peak = 0, bad = 0;
  for (const value of samples) if (Number.isFinite(value)) peak = Math.max(peak, Math.abs(value)); else bad++;
  if (bad) throw new Error(`${bad} samples of ${samples.length} are not finite (NaN or infinite); repair or drop the recording`);
  if (peak > MAX_AMPLITUDE) throw new Error(`it has float samples up to ${Number(peak.toPrecision(4))}, where full scale is 1. Samples in 16-bit units: divide by 32768`);
}

// By the browser, at the rate that the file's header names: no sample is changed by resampling.
async function decoded(bytes) {
  const named = rateOf(bytes), rate = named?.rate ?? BROWSER_RATE;
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.slice().buffer);
  } catch {
    throw new Error("your browser cannot read it as audio. Save it as WAV or FLAC, and check that it is whole");
  }
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, place) => buffer.getChannelData(place));
  return { rate, channels: named?.bits ? channels.map(channel => onSteps(channel, named.bits)) : channels, count: buffer.numberOfChannels, notes: [] };
}

// Chromium divides steps above 0 by one less than those below. The file's own steps are what was recorded.
function onSteps(samples, bits) {
  const full = 2 ** (bits - 1);
  const off = scale => samples.reduce((sum, value) => value > 0 ? sum + Math.abs(value * scale - Math.round(value * scale)) : sum, 0);
  const positive = off(full - 1) < off(full) ? full - 1 : full;
  return bits > 16 ? samples : samples.map(value => Math.round(value * (value > 0 ? positive : full)) / full);
}

function rateOf(bytes) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), at = afterTags(bytes);
  const name = String.fromCharCode(...bytes.subarray(at, at + 4));
  if (name === "fLaC" && at + 22 <= bytes.length) {
    const word = data.getUint32(at + 18);  // rate: 20 bits, channels: 3, bits of a sample: 5
    return { rate: word >>> 12, bits: ((word >>> 4) & 31) + 1 };
  }
  if (name === "OggS") {
    const start = String.fromCharCode(...bytes.subarray(at, at + 80)).indexOf("\x01vorbis");
    return start < 0 || at + start + 16 > bytes.length ? null : { rate: data.getUint32(at + start + 12, true) };
  }
  if (bytes[at] === 0xff && (bytes[at + 1] & 0xe6) === 0xe2) {  // MPEG, layer III
    const version = (bytes[at + 1] >> 3) & 3, divisor = { 3: 1, 2: 2, 0: 4 }[version];
    const rate = [44_100, 48_000, 32_000][(bytes[at + 2] >> 2) & 3];
    return divisor && rate ? { rate: rate / divisor } : null;
  }
  return null;
}

function afterTags(bytes) {
  if (String.fromCharCode(...bytes.subarray(0, 3)) !== "ID3" || bytes.length < 10) return 0;
  return 10 + [6, 7, 8, 9].reduce((sum, place) => sum * 128 + (bytes[place] & 127), 0);
}
