/* Two sounds side by side on the same scales, and their difference. */

function compare(payload) {
  const sides = ["a", "b"].map(side => {
    const one = payload[side], normal = one.view.normal_db, { regions } = one.result;
    const stack = new Stack(one.view, rowsOf(one.view, ["log_mel", "attention_log_mel"]), { regions, normal });
    return [card(one), stack.node];
  }).flat();
  const { view } = payload.a;
  const difference = new Stack({ ...view, samples: payload.difference_samples || view.samples }, [
    {
      title: say("compare.difference"), hint: say("compare.difference_hint"), colors: "difference", size: 200,
      layer: decoded(payload.difference), above: say("compare.above"), below: say("compare.below"),
    },
  ], { hasPlayer: false });
  return el("div", { class: "asd-answer" }, el("div", { class: "asd-sides" }, ...sides), difference.node,
    spectra(payload), downloads(payload, "compare"));
}
