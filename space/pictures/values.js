/* A table whose columns sort. */

/* columns: title, value(row) to sort by, and optionally text(row) or node(row) to show, and isNumber, isName or isLong. */
function table(caption, columns, rows) {
  let order = null, isDown = false;
  const body = el("tbody"), heads = columns.map(column => {
    const head = el("th", { scope: "col", class: column.isNumber ? "asd-number" : "" });
    if (!column.value) head.append(column.title || el("span", { class: "asd-unseen" }, column.unseen));
    else head.append(el("button", { type: "button", onclick: () => {
      isDown = order === column && !isDown;
      order = column;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      fill();
    } }, column.title));
    return head;
  });
  const cell = (column, row) => {
    const shown = column.node ? column.node(row) : column.text ? column.text(row)
      : column.isNumber ? number(column.value(row)) : column.value(row) ?? "–";
    // On a phone a row is a paragraph, whose numbers need their names; what is not known needs no place.
    const td = el("td", { "data-title": column.title ?? "", class: column.isNumber ? "asd-number" : column.isLong ? "asd-long" : column.isName ? "asd-name" : "" }, shown);
    td.classList.toggle("asd-none", td.textContent === "–");
    return td;
  };
  // What is not known comes last, however the rows are sorted.
  const compared = (one, other) => {
    const [a, b] = [order.value(one), order.value(other)];
    if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === null ? ((b ?? null) === null ? 0 : 1) : -1;
    return (isDown ? -1 : 1) * (order.isNumber ? a - b : String(a).localeCompare(String(b), language(), { numeric: true }));
  };
  const fill = () => {
    const sorted = order ? [...rows].sort(compared) : rows;
    body.replaceChildren(...sorted.map(row => el("tr", {}, ...columns.map(column => cell(column, row)))));
  };
  fill();
  return el("div", { class: "asd-table", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body));
}
