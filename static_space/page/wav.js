/* WAV files, also those that a recorder never finished: as libsndfile and the pipeline read them. */

const PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe;
// Programs that write to a pipe put such sizes into the header, because the true one is not known yet.
const STREAMED_BYTES = 0x7fff0000;

const READERS = {
  [`${PCM} 8`]: (data, at) => (data.getUint8(at) - 128) / 128,
  [`${PCM} 16`]: (data, at) => data.getInt16(at, true) / 32768,
  [`${PCM} 24`]: (data, at) => ((data.getInt8(at + 2) << 16) | data.getUint16(at, true)) / 8388608,
  [`${PCM} 32`]: (data, at) => data.getInt32(at, true) / 2147483648,
  [`${FLOAT} 32`]: (data, at) => data.getFloat32(at, true),
  [`${FLOAT} 64`]: (data, at) => data.getFloat64(at, true),
};

export function isWav(bytes) { return text(bytes, 0) === "RIFF" && text(bytes, 8) === "WAVE"; }

function text(bytes, at) { return String.fromCharCode(...bytes.subarray(at, at + 4)); }

// { rate, channels, count, notes }, or null for a kind of samples that only the browser may know. `most` channels are read.
export function readWav(bytes, most) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let format = null, at = 12;
  while (at + 8 <= bytes.length) {
    const name = text(bytes, at), size = data.getUint32(at + 4, true), start = at + 8;
    if (name === "fmt " && start + 16 <= bytes.length) format = readFormat(data, start, size);
    if (name === "data") return format === null ? null : samplesOf(data, format, start, size, most);
    at = start + size + size % 2;
  }
  throw new Error("it holds no samples");
}

function readFormat(data, at, size) {
  let kind = data.getUint16(at, true);
  if (kind === EXTENSIBLE && size >= 40 && at + 26 <= data.byteLength) kind = data.getUint16(at + 24, true);
  return { kind, channels: data.getUint16(at + 2, true), rate: data.getUint32(at + 4, true), bits: data.getUint16(at + 14, true) };
}

function samplesOf(data, { kind, channels, rate, bits }, start, declared, most) {
  const read = READERS[`${kind} ${bits}`], width = channels * bits / 8;
  if (!read || !channels) return null;
  const present = data.byteLength - start, isUnfinished = declared === 0 && present > 0;
  const taken = isUnfinished ? present : Math.min(declared, present), frames = Math.floor(taken / width);
  const read_channels = Array.from({ length: Math.min(channels, most) }, (_, channel) => {
    const samples = new Float32Array(frames);
    for (let frame = 0; frame < frames; frame++) samples[frame] = read(data, start + frame * width + channel * bits / 8);
    return samples;
  });
  const found = frames / rate, missing = Math.floor(declared / width) / rate - found, notes = [];
  if (isUnfinished) notes.push(`the header says 0 samples; ${found.toFixed(1)} s were found`);
  else if (declared < STREAMED_BYTES && missing > 0.1)
    notes.push(`the header says ${(found + missing).toFixed(1)} s; ${found.toFixed(1)} s were found`);
  return { rate, channels: read_channels, count: channels, notes };
}
