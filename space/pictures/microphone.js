/* The microphone: as it is, and live. */

// By default browsers level the loudness and take steady noise away, which is what a machine makes.
const AS_IT_IS = { autoGainControl: false, echoCancellation: false, noiseSuppression: false };
const devices = navigator.mediaDevices;
if (devices?.getUserMedia) {
  const open = devices.getUserMedia.bind(devices);
  devices.getUserMedia = wanted => open(wanted?.audio ? { ...wanted, audio: { ...AS_IT_IS, ...(wanted.audio === true ? {} : wanted.audio) } } : wanted);
}

// Runs beside the page: hands on what the microphone hears in blocks of 4096 samples.
const TAP = `registerProcessor("asd-tap", class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(4096); this.length = 0; }
  process([[channel]]) {
    if (!channel) return true;
    this.block.set(channel, this.length);
    this.length += channel.length;
    if (this.length === this.block.length) { this.port.postMessage(this.block.slice()); this.length = 0; }
    return true;
  }
});`;
const MOST_SECONDS = 30;

// Sends a second of sound when the second before was answered, so that none is lost and none overtakes another.
class Microphone {
  static patienceMs = 60_000;

  constructor(send) {
    this.send = send;
    this.button = el("button", { type: "button", class: "asd-button asd-record", onclick: () => this.context ? this.stop() : this.start() });
    this.words = el("span", { class: "asd-hint", role: "alert" });
    this.node = el("div", { class: "asd-player" }, this.button, this.words);
    this.stop();
    document.addEventListener("asd-language", () => this.named());
  }

  named() {
    this.node.classList.toggle("asd-off", !this.context);
    this.button.textContent = this.context ? `■ ${say("microphone.stop")}` : `● ${say("microphone.start")}`;
  }

  async start() {
    this.words.textContent = "";
    try {
      if (!devices) throw new Error(say("microphone.https"));
      this.stream = await devices.getUserMedia({ audio: true });
    } catch (error) {
      this.words.textContent = say("microphone.closed", { why: error.message });
      return;
    }
    const context = this.context = new AudioContext(), code = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
    Object.assign(this, { blocks: [], length: 0, lost: 0, begins: true, isWaiting: false });
    this.named();
    await context.audioWorklet.addModule(code);
    URL.revokeObjectURL(code);
    const tap = new AudioWorkletNode(context, "asd-tap");
    tap.port.onmessage = ({ data }) => this.context === context && this.take(data);
    context.createMediaStreamSource(this.stream).connect(tap).connect(context.destination);  // which gets silence
    this.stream.getTracks()[0].addEventListener("ended", () => this.stop(say("microphone.gone")));
  }

  stop(why = "") {
    clearTimeout(this.timer);
    this.stream?.getTracks().forEach(track => track.stop());
    this.context?.close();
    this.context = this.stream = null;
    this.named();
    this.words.textContent = why;
  }

  take(block) {
    this.blocks.push(block);
    this.length += block.length;
    if (this.length > MOST_SECONDS * this.context.sampleRate) {
      this.lost += this.length;
      Object.assign(this, { blocks: [], length: 0 });
    }
    if (!this.isWaiting && this.length >= this.context.sampleRate) this.post();
  }

  post() {
    const samples = new Int16Array(this.length);
    let at = 0;
    for (const block of this.blocks) for (const value of block) samples[at++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
    const raw = new Uint8Array(samples.buffer), text = [];
    for (let i = 0; i < raw.length; i += 8192) text.push(String.fromCharCode(...raw.subarray(i, i + 8192)));
    const { begins, lost } = this;
    Object.assign(this, { blocks: [], length: 0, lost: 0, begins: false, isWaiting: true });
    this.timer = setTimeout(() => this.unanswered(begins, samples.length), Microphone.patienceMs);
    this.send({ begins, lost, rate: this.context.sampleRate, samples: btoa(text.join("")) });
  }

  // Nobody may be there to start again: what was sent counts as lost, and the next second is sent.
  unanswered(begins, length) {
    this.words.textContent = say("microphone.silent");
    this.lost += length;
    this.begins ||= begins;
    this.isWaiting = false;
  }

  answered(payload) {
    clearTimeout(this.timer);
    this.words.textContent = "";
    this.isWaiting = false;
    if (payload?.error && this.context) this.stop();
  }
}
