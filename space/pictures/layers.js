/* Which layers there are, and how each is drawn. The first picture is the difference from this machine's normal sound. */

const ROWS = {
  above_normal: {
    colors: "difference", size: 210, hasRegions: true,
  },
  log_mel: { colors: "level", size: 180, hasRegions: true },
  wavegram: { colors: "level", size: 120, isResearch: true },
  attention_log_mel: { colors: "attention", size: 150, hasRegions: true, isWeight: true, isResearch: true },
  attention_wavegram: { colors: "attention", size: 120, isWeight: true, isResearch: true },
};

function decoded(layer) {
  return { ...layer, cells: layer.cells instanceof Uint8Array ? layer.cells : bytes(layer.cells) };
}

// The pictures of a window, from the difference to the attention maps; those that the window lacks are left out.
function rowsOf(view, names = Object.keys(ROWS)) {
  const wave = { title: say("row.waveform"), hint: say("row.waveform_hint"), size: 70, peak: view.peak };
  const rows = names.filter(name => view.layers[name]).map(name => ({
    ...ROWS[name], name, title: say(`row.${name}`), hint: say(`row.${name}_hint`), above: say("row.above"), below: say("row.below"),
    layer: decoded(view.layers[name]),
  }));
  const research = rows.findIndex(row => row.isResearch);
  rows.splice(research < 0 ? rows.length : research, 0, wave);
  return rows;
}
