/* Which layers there are, and how each is drawn. The first picture is the difference from this machine's normal sound. */

const ROWS = {
  above_normal: {
    title: "Difference from normal", hint: "red is louder than this machine's normal level, blue is softer", colors: "difference", size: 210,
    hasRegions: true, above: "above normal", below: "below normal",
  },
  log_mel: { title: "Log-mel", hint: "level by time and frequency", colors: "level", size: 180, hasRegions: true },
  wavegram: { title: "Wavegram", hint: "what the learned filters detect", colors: "level", size: 120, isResearch: true },
  attention_log_mel: { title: "Attention on the log-mel", hint: "where the network looks", colors: "attention", size: 150, hasRegions: true, valueName: "weight", isResearch: true },
  attention_wavegram: { title: "Attention on the Wavegram", hint: "which filters it follows, when", colors: "attention", size: 120, valueName: "weight", isResearch: true },
};

function decoded(layer) {
  return { ...layer, cells: layer.cells instanceof Uint8Array ? layer.cells : bytes(layer.cells) };
}

// The pictures of a window, from the difference to the attention maps; those that the window lacks are left out.
function rowsOf(view, names = Object.keys(ROWS)) {
  const wave = { title: "Waveform", hint: "as the model gets it", size: 70, peak: view.peak };
  const rows = names.filter(name => view.layers[name]).map(name => ({ ...ROWS[name], name, layer: decoded(view.layers[name]) }));
  const research = rows.findIndex(row => row.isResearch);
  rows.splice(research < 0 ? rows.length : research, 0, wave);
  return rows;
}
