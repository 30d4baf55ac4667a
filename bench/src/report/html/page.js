"use strict";
// The values under the cursor. The wide form of a plot carries them; both forms show them.
(() => {
  const digits = (value) => {
    const size = Math.abs(value);
    if (size >= 100) return Math.round(value).toLocaleString("en-US");
    return value === 0 ? "0" : value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
  };
  const said = {
    s: (value) => `${value.toFixed(1)} s`,
    ms: (value) => value < 1 ? `${digits(value * 1e3)} µs` : value < 1e3 ? `${digits(value)} ms` : `${digits(value / 1e3)} s`,
    rate: (value) => `${digits(value)} /s`,
    share: (value) => `${parseFloat((value * 100).toFixed(5))} %`,
  };
  const place = {
    linear: (value, from, to) => (value - from) / (to - from),
    log: (value, from, to) => Math.log(value / from) / Math.log(to / from),
    nines: (value, from, to) => Math.min(1, -Math.log10(Math.max(1 - value, 1e-12)) / to),
  };
  const nearest = (points, share) => {
    let best = points[0];
    for (const point of points) if (Math.abs(point.share - share) < Math.abs(best.share - share)) best = point;
    return best;
  };
  const attend = (figure) => {
    const { scale, from, to, x, y } = figure.querySelector("svg").dataset;
    const series = [...figure.querySelectorAll("svg.wide path[data-values]")].map((path) => ({
      name: path.dataset.name,
      points: path.dataset.values.split(" ").map((pair) => {
        const [at, value] = pair.split(",").map(Number);
        return { at, value, share: place[scale](at, Number(from), Number(to)) };
      }),
    }));
    if (!series.length) return;
    const longest = series.reduce((one, other) => other.points.length > one.points.length ? other : one);
    const readout = figure.appendChild(document.createElement("div"));
    readout.className = "readout";
    readout.hidden = true;
    const shown = () => [...figure.querySelectorAll("svg")].find((svg) => svg.getClientRects().length);
    let cursor;
    let at = -1;
    const hide = () => {
      readout.hidden = true;
      if (cursor) cursor.remove();
      cursor = undefined;
    };
    const show = (share) => {
      const svg = shown();
      const [left, top, width, height] = svg.dataset.frame.split(" ").map(Number);
      const here = nearest(longest.points, share);
      at = longest.points.indexOf(here);
      if (!cursor || cursor.ownerSVGElement !== svg) {
        if (cursor) cursor.remove();
        cursor = svg.appendChild(document.createElementNS(svg.namespaceURI, "line"));
        cursor.setAttribute("class", "cursor");
      }
      const middle = left + width * here.share;
      for (const [name, value] of Object.entries({ x1: middle, x2: middle, y1: top, y2: top + height })) {
        cursor.setAttribute(name, value);
      }
      readout.replaceChildren(Object.assign(document.createElement("b"), { textContent: said[x](here.at) }));
      for (const { name, points } of series) {
        const line = readout.appendChild(document.createElement("span"));
        line.append(name, Object.assign(document.createElement("i"), { textContent: said[y](nearest(points, here.share).value) }));
      }
      readout.hidden = false;
      const box = svg.getBoundingClientRect();
      const outer = figure.getBoundingClientRect();
      const unit = box.width / svg.viewBox.baseVal.width;
      const place = box.left - outer.left + middle * unit;
      const beside = place > outer.width / 2 ? place - readout.offsetWidth - 12 : place + 12;
      readout.style.left = `${Math.max(4, beside)}px`;
      readout.style.top = `${box.top - outer.top + (top + 8) * unit}px`;
    };
    const follow = (event) => {
      const svg = shown();
      const box = svg.getBoundingClientRect();
      const [left, , width] = svg.dataset.frame.split(" ").map(Number);
      const share = ((event.clientX - box.left) * svg.viewBox.baseVal.width / box.width - left) / width;
      if (share < -0.05 || share > 1.05) hide(); else show(share);
    };
    figure.addEventListener("pointermove", follow);
    figure.addEventListener("pointerdown", follow);
    figure.addEventListener("pointerleave", hide);
    figure.addEventListener("blur", hide);
    figure.tabIndex = 0;
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        const next = Math.min(longest.points.length - 1, Math.max(0, at + step));
        show(longest.points[next].share);
        event.preventDefault();
      } else if (event.key === "Escape") hide();
    });
  };
  for (const svg of document.querySelectorAll("svg.wide[data-scale]")) attend(svg.parentElement);
})();
