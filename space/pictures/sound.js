/* Samples as sound: their peaks, and a file that the browser plays. */

function peaks(samples) {
  const found = [];
  for (let i = 0; i < samples.length; i += 4096) {
    let peak = 0;
    for (const sample of samples.subarray(i, i + 4096)) peak = Math.max(peak, Math.abs(sample));
    found.push(peak);
  }
  return found;
}

function wav(samples, rate, gain) {
  const buffer = new ArrayBuffer(44 + 2 * samples.length), data = new DataView(buffer);
  const text = (at, words) => [...words].forEach((letter, i) => data.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); data.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  data.setUint32(16, 16, true); data.setUint16(20, 1, true); data.setUint16(22, 1, true);
  data.setUint32(24, rate, true); data.setUint32(28, 2 * rate, true); data.setUint16(32, 2, true); data.setUint16(34, 16, true);
  text(36, "data"); data.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => data.setInt16(44 + 2 * i, sample * gain, true));
  return new Blob([buffer], { type: "audio/wav" });
}

// Machines are recorded with room to spare: how much louder a recording is at full level.
const fullGain = samples => Math.min(0.9 * 32767 / Math.max(...peaks(samples), 1), 30);

// Plays a region in a loop through a band-pass filter, and returns what stops it. A shorter recording gives its last stretch.
function playRegion(samples, rate, region, gain, isHalfSpeed) {
  const context = new AudioContext(), speed = isHalfSpeed ? 0.5 : 1, nyquist = context.sampleRate / 2;
  const buffer = context.createBuffer(1, samples.length, rate), channel = buffer.getChannelData(0);
  samples.forEach((sample, i) => { channel[i] = sample / 32768; });
  const length = Math.max(region.end_s - region.start_s, 0.1), start = Math.max(Math.min(region.start_s, samples.length / rate - length), 0);
  const source = new AudioBufferSourceNode(context, { buffer, loop: true, loopStart: start, loopEnd: start + length, playbackRate: speed });
  // Twelve decibels an octave each, twice: at half speed all frequencies are halved.
  const filters = [["highpass", region.low_hz], ["highpass", region.low_hz], ["lowpass", region.high_hz], ["lowpass", region.high_hz]]
    .filter(([, frequency]) => frequency > 20 && frequency * speed < nyquist)
    .map(([type, frequency]) => new BiquadFilterNode(context, { type, frequency: frequency * speed, Q: Math.SQRT1_2 }));
  [source, ...filters, new GainNode(context, { gain: Math.min(gain, 30) }), context.destination].reduce((from, to) => from.connect(to));
  source.start(0, start);
  return () => { source.stop(); context.close(); };
}
