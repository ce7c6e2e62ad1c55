/* Python's `format` for the numbers in a note: {name}, {name:.1f}, {name:.2g} and {name:g}. */

export function filled(template, values) {
  return template.replace(/\{(\w+)(?::([^}]*))?\}/g, (_, name, format) => format ? formatted(values[name], format) : String(values[name]));
}

function formatted(value, format) {
  const [, digits, kind] = /^(?:\.(\d+))?([fg])$/.exec(format);
  return kind === "f" ? value.toFixed(Number(digits)) : general(value, Number(digits ?? 6));
}

function general(value, digits) {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e").map(Number);
  if (exponent < -4 || exponent >= digits)
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  return String(Number(value.toPrecision(digits)));
}
