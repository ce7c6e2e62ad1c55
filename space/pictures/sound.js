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

// Plays a region in a loop through a band-pass filter, and returns what stops it.
function playRegion(samples, rate, region, decibels, isHalfSpeed) {
  const context = new AudioContext(), speed = isHalfSpeed ? 0.5 : 1, nyquist = context.sampleRate / 2;
  const buffer = context.createBuffer(1, samples.length, rate), channel = buffer.getChannelData(0);
  samples.forEach((sample, i) => { channel[i] = sample / 32768; });
  const source = new AudioBufferSourceNode(context, {
    buffer, loop: true, loopStart: region.start_s, loopEnd: Math.max(region.end_s, region.start_s + 0.1), playbackRate: speed,
  });
  // Twelve decibels an octave each, twice: at half speed all frequencies are halved.
  const filters = [["highpass", region.low_hz], ["highpass", region.low_hz], ["lowpass", region.high_hz], ["lowpass", region.high_hz]]
    .filter(([, frequency]) => frequency > 20 && frequency * speed < nyquist)
    .map(([type, frequency]) => new BiquadFilterNode(context, { type, frequency: frequency * speed, Q: Math.SQRT1_2 }));
  const peak = Math.max(...peaks(samples), 1), gain = Math.min(0.9 * 32767 / peak, 30) * 10 ** (decibels / 20);
  [source, ...filters, new GainNode(context, { gain: Math.min(gain, 30) }), context.destination].reduce((from, to) => from.connect(to));
  source.start(0, region.start_s);
  return () => { source.stop(); context.close(); };
}
