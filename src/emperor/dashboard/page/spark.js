// Lines of a series.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;

function spark(className) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const part of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", part);
    svg.append(path);
  }
  return svg;
}

// What the height means. Rates and times begin at 0; memory does not, or nobody would see it grow.
function scale(series, least, fromZero) {
  const range = series.range();
  if (!range) return { low: 0, high: least };
  const low = fromZero ? 0 : Math.min(range.low, range.high * 0.75);
  return { low, high: Math.max(range.high, low + least) };
}

function draw(svg, series, { low, high }) {
  const [area, line] = svg.children;
  let [lines, areas, begin] = ["", "", -1];
  const y = (value) => (4 + (HEIGHT - 6) * (1 - (value - low) / (high - low))).toFixed(1);
  const columns = axis.shown();
  for (let x = 0; x < columns; x++) {
    const value = series.at(SAMPLES - columns + x);
    if (Number.isNaN(value)) {
      if (begin >= 0) areas += `V${HEIGHT}H${begin}Z`;
      begin = -1;
    } else if (begin < 0) {
      begin = x;
      lines += `M${x} ${y(value)}h.01`;
      areas += `M${x} ${HEIGHT}V${y(value)}`;
    } else {
      lines += `L${x} ${y(value)}`;
      areas += `L${x} ${y(value)}`;
    }
  }
  if (begin >= 0) areas += `V${HEIGHT}H${begin}Z`;
  if (line.getAttribute("d") !== lines) {
    svg.setAttribute("viewBox", `0 0 ${columns - 1} ${HEIGHT}`);
    line.setAttribute("d", lines);
    area.setAttribute("d", areas);
  }
}

const drawRate = (svg, series) => draw(svg, series, scale(series, 1, true));
const drawLatency = (svg, series) => draw(svg, series, scale(series, 1000, true));
const drawMemory = (svg, series) => draw(svg, series, scale(series, 1e6, false));
