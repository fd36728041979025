// The host's memory over time, stacked, with the state as a band below; or the same as a table.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, percent, size } from "./format.js";
import { byMeans, byVm } from "./series.js";

const SPANS = [[600, "10 min"], [3600, "1 h"], [21600, "6 h"], [86400, "24 h"]];
const BAND = 10; // pixels

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// uPlot draws one line after another, each filled to the ground: the sum of all first, the lowest last.
function stacked({ times, lines }) {
  const sums = [];
  const total = times.map(() => 0);
  for (const line of lines) {
    sums.unshift(line.values.map((value, i) => (value === null || value === undefined ? null : (total[i] += value))));
  }
  return [times, ...sums];
}

function stateBand(states) {
  return (u) => {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const times = u.data[0];
    const top = bbox.top + bbox.height + 4 * ratio;
    ctx.save();
    for (let i = 0; i < times.length; ++i) {
      const state = states.current[i];
      if (!state) continue;
      const from = Math.max(u.valToPos(times[i], "x", true), bbox.left);
      const next = i + 1 < times.length ? u.valToPos(times[i + 1], "x", true) : bbox.left + bbox.width;
      ctx.fillStyle = colourOf(`--state-${state}`);
      ctx.fillRect(from, top, Math.max(Math.min(next, bbox.left + bbox.width) - from + 0.5, 1), BAND * ratio);
    }
    ctx.restore();
  };
}

function axisSizes(_, values) {
  return values.map((value) => size(value));
}

// Round numbers of bytes are powers of two.
const INCREMENTS = Array.from({ length: 40 }, (_, i) => 2 ** (i + 12));

function makePlot(element, picture, states, onCursor) {
  const lines = [...picture.lines].reverse();
  const axis = { stroke: colourOf("--quiet"), font: `12px ${colourOf("--font")}`, ticks: { show: false } };
  return new uPlot({
    width: element.clientWidth,
    height: element.clientHeight,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, max) => [0, max || 1] } },
    axes: [
      { ...axis, grid: { show: false }, gap: BAND + 8, size: 34,
        values: (_, times) => times.map((time) => clock(time * 1000, false)) },
      { ...axis, size: 68, values: axisSizes, incrs: INCREMENTS, grid: { stroke: colourOf("--line"), width: 1 } },
    ],
    series: [{}, ...lines.map((line) => ({ stroke: colourOf("--surface"), width: 1, fill: colourOf(line.colour), points: { show: false } }))],
    hooks: { draw: [stateBand(states)], setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
  }, stacked(picture), element);
}

function Plot({ picture, shape, theme, label, onCursor }) {
  const element = useRef(null);
  const plot = useRef(null);
  const states = useRef(picture.states);
  states.current = picture.states;
  useEffect(() => {
    plot.current = makePlot(element.current, picture, states, onCursor);
    const watcher = new ResizeObserver(() => {
      plot.current.setSize({ width: element.current.clientWidth, height: element.current.clientHeight });
    });
    watcher.observe(element.current);
    return () => {
      watcher.disconnect();
      plot.current.destroy();
    };
  }, [shape, theme]);
  useEffect(() => plot.current.setData(stacked(picture)), [picture]);
  return <div class="plot" ref={element} role="img" aria-label={label} />;
}

function Table({ picture }) {
  // The newest first, a dozen rows.
  const all = picture.times.map((_, i) => i).filter((i) => picture.lines[0]?.values[i] !== null);
  const stride = Math.max(1, Math.floor(all.length / 12));
  const rows = all.reverse().filter((_, i) => i % stride === 0);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Host memory over time, as a table">
      <table>
        <thead><tr><th scope="col">Time</th><th scope="col">State</th>
          {picture.lines.map((line) => <th scope="col" class="number">{line.label}</th>)}</tr></thead>
        <tbody>{rows.map((i) => (
          <tr><th scope="row">{clock(picture.times[i] * 1000)}</th><td>{picture.states[i]}</td>
            {picture.lines.map((line) => <td class="number">{size(line.values[i])}</td>)}</tr>))}
        </tbody>
      </table>
    </div>
  );
}

function Choice({ label, options, value, onChoose }) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([key, text]) => (
        <button type="button" aria-pressed={key === value} onClick={() => onChoose(key)}>{text}</button>))}
    </div>
  );
}

export function Picture({ live, theme }) {
  const [by, setBy] = useState("means");
  const [asTable, setAsTable] = useState(false);
  const [cursor, setCursor] = useState(null);
  const picture = useMemo(() => (by === "vm" ? byVm(live) : byMeans(live)), [by, live.unixMs, live.history]);
  const at = cursor !== null && cursor < picture.times.length ? cursor : picture.times.length - 1;
  const host = live.host;
  const label = `Host memory over the last ${SPANS.find(([span]) => span === live.span)[1]}: now ${size(host.consumed_bytes)} of ` +
    `${size(host.budget_bytes)} consumed, state ${host.state}. The button "Table" shows the numbers.`;
  const shape = picture.lines.map((line) => line.key).join();
  return (
    <section class="panel picture" aria-labelledby="picture-title">
      <div class="panel-head">
        <h2 id="picture-title">Host memory</h2>
        <Choice label="Divide by" options={[["means", "By means"], ["vm", "By VM"]]} value={by} onChoose={setBy} />
        <Choice label="Time" options={SPANS} value={live.span} onChoose={(span) => live.show(span)} />
        <button type="button" class="quiet" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>Table</button>
      </div>
      {asTable ? <Table picture={picture} />
        : <Plot picture={picture} shape={shape} theme={theme} label={label} onCursor={setCursor} />}
      <div class="legend">
        <span class="moment">{cursor !== null && picture.times[at] ? clock(picture.times[at] * 1000) : "now"}
          <span class={`state ${picture.states[at] ?? ""}`}>{picture.states[at]}</span></span>
        {picture.lines.map((line) => (
          <span class="key"><i style={{ background: `var(${line.colour})` }} />{line.label}
            <b>{size(line.values[at])}</b>
            <small>{percent(line.values[at] ?? 0, host.budget_bytes)}</small></span>))}
      </div>
      {live.historyProblem && <p class="note">{live.historyProblem}; the picture begins when this page was opened.</p>}
    </section>
  );
}
