/* The microphone as it is. */

// By default browsers level the loudness and take steady noise away, which is what a machine makes.
const AS_IT_IS = { autoGainControl: false, echoCancellation: false, noiseSuppression: false };
const devices = navigator.mediaDevices;
if (devices?.getUserMedia) {
  const open = devices.getUserMedia.bind(devices);
  devices.getUserMedia = wanted => open(wanted?.audio ? { ...wanted, audio: { ...AS_IT_IS, ...(wanted.audio === true ? {} : wanted.audio) } } : wanted);
}
