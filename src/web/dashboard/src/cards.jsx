// One card per VM: where its memory is, what it should have, and how it fares. A click says why.
import { useMemo, useRef, useState } from "preact/hooks";
import { duration, rate, size, sizeWithError } from "./format.js";
import { lately } from "./series.js";

const SHOWN = 24; // more only when asked: 200 cards would be slow, and nobody reads them

const BADGES = 2; // what fits one line

const PLACES = [
  ["resident_bytes", "resident", "--resident"],
  ["shared_bytes", "shared", "--shared"],
  ["compressed_bytes", "compressed", "--compressed"],
  ["swapped_bytes", "swapped", "--swapped"],
  ["ballooned_bytes", "given up by the guest", "--balloon"],
  ["zero_bytes", "known zero", "--zero"],
];

const SORTS = {
  name: ["Name", (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })],
  trouble: ["Trouble first", (a, b) => troubleRank(b) - troubleRank(a) || b.swapped_bytes - a.swapped_bytes],
  consumed: ["Consumed", (a, b) => b.consumed_bytes - a.consumed_bytes],
  above: ["Above target", (a, b) => b.consumed_bytes - b.target_bytes - (a.consumed_bytes - a.target_bytes)],
  active: ["Active", (a, b) => b.active_bytes - a.active_bytes],
  swapped: ["Swapped", (a, b) => b.swapped_bytes - a.swapped_bytes],
  waits: ["Waits", (a, b) => (b.rates?.waits ?? 0) - (a.rates?.waits ?? 0)],
};

// What an operator should know first, in words; the gravest first.
export function troubles(vm) {
  const found = [];
  if (vm.state === "paused") found.push(["bad", "paused"]);
  if (vm.lost_pages > 0) found.push(["bad", "pages lost"]);
  if (vm.blocked) found.push(["bad", "blocked"]);
  if (vm.rates?.waits > 0) found.push(["warn", "waiting"]);
  if (vm.balloon_state === "stuck") found.push(["warn", "balloon stuck"]);
  if (vm.rates?.swap_ins > 50) found.push(["warn", "swapping"]);
  return found;
}

function troubleRank(vm) {
  return troubles(vm).reduce((rank, [grade]) => rank + (grade === "bad" ? 100 : 1), 0);
}

function Spark({ values, target }) {
  const [width, height] = [96, 28];
  if (values.length < 2) return <svg class="spark" width={width} height={height} aria-hidden="true" />;
  const top = Math.max(...values, target) * 1.05 || 1;
  const x = (i) => ((i / (values.length - 1)) * width).toFixed(1);
  const y = (value) => (height - (value / top) * height).toFixed(1);
  const line = values.map((value, i) => `${x(i)},${y(value)}`).join(" ");
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      <polygon points={`0,${height} ${line} ${width},${height}`} />
      <polyline points={line} />
      <line x1="0" x2={width} y1={y(target)} y2={y(target)} />
    </svg>
  );
}

function Bar({ vm }) {
  const whole = vm.configured_bytes || 1;
  const part = (bytes) => `${Math.min(100, (100 * bytes) / whole)}%`;
  const low = Math.max(0, vm.active_bytes - vm.active_error_bytes);
  const text = PLACES.filter(([key]) => vm[key] > 0).map(([key, word]) => `${size(vm[key])} ${word}`).join(", ");
  return (
    <div class="bar" role="img" aria-label={`Of ${size(whole)}: ${text || "nothing touched yet"}`} title={text}>
      <div class="fill">{PLACES.map(([key, , colour]) => (
        <i style={{ width: part(vm[key]), background: `var(${colour})` }} />))}</div>
      <b class="target" style={{ left: part(vm.target_bytes) }} />
      {vm.samples > 0 && <b class="active" style={{ left: part(low), width: part(Math.min(2 * vm.active_error_bytes, whole - low)) }} />}
    </div>
  );
}

function Fact({ label, children, dim }) {
  return <div class={dim ? "fact dim" : "fact"}><dt>{label}</dt><dd>{children}</dd></div>;
}

function Card({ vm, values, onWhy }) {
  const found = troubles(vm);
  return (
    <article class={`card ${found[0]?.[0] ?? ""}`}>
      <header>
        <h3><button type="button" onClick={() => onWhy(vm.name)} aria-label={`Why ${vm.name} has what it has`}>{vm.name}</button></h3>
        <Spark values={values} target={vm.target_bytes} />
      </header>
      <p class="amount"><span><strong>{size(vm.consumed_bytes)}</strong> of {size(vm.configured_bytes)}</span>
        {found.slice(0, BADGES).map(([grade, word]) => <span class={`badge ${grade}`}>{word}</span>)}
        {found.length > BADGES && <span class="badge warn" title={found.map(([, word]) => word).join(", ")}>+{found.length - BADGES}</span>}</p>
      <Bar vm={vm} />
      <dl>
        <Fact label="Target">{size(vm.target_bytes)}</Fact>
        <Fact label="Active" dim={vm.samples === 0}>
          {vm.samples === 0 ? "not known" : sizeWithError(vm.active_bytes, vm.active_error_bytes)}</Fact>
        <Fact label="Balloon" dim={!vm.balloon_bytes}>{size(vm.balloon_bytes)}</Fact>
        <Fact label="Shared" dim={!vm.shared_bytes}>{size(vm.shared_bytes)}</Fact>
        <Fact label="Compressed" dim={!vm.compressed_bytes}>{size(vm.compressed_bytes)}</Fact>
        <Fact label="Swapped" dim={!vm.swapped_bytes}>{size(vm.swapped_bytes)}</Fact>
        <Fact label="Waits / s" dim={!vm.rates?.waits}>{rate(vm.rates?.waits)}</Fact>
        <Fact label="Fault p99">{duration(vm.fault_p99_ns)}</Fact>
      </dl>
    </article>
  );
}

export function Cards({ live, onWhy }) {
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState("trouble");
  const [shown, setShown] = useState(SHOWN);
  const field = useRef(null);
  const vms = live.host.vms;
  const found = useMemo(() => {
    const wanted = filter.trim().toLowerCase();
    const matching = vms.filter((vm) => !wanted || vm.name.toLowerCase().includes(wanted) || vm.uuid.includes(wanted) ||
      (vm.share_group ?? "").toLowerCase().includes(wanted));
    return matching.sort((a, b) => SORTS[sort][1](a, b) || SORTS.name[1](a, b));
  }, [vms, filter, sort]);
  const focusFilter = (element) => {
    field.current = element;
    document.onkeydown = (event) => {
      if (event.key !== "/" || /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
      event.preventDefault();
      field.current?.focus();
    };
  };
  return (
    <section aria-labelledby="vms-title" class="vms">
      <div class="panel-head">
        <h2 id="vms-title">Virtual machines <small>{found.length === vms.length ? vms.length : `${found.length} of ${vms.length}`}</small></h2>
        <input type="search" ref={focusFilter} placeholder="Filter by name, UUID or salt  ( / )" aria-label="Filter VMs"
          value={filter} onInput={(event) => { setFilter(event.currentTarget.value); setShown(SHOWN); }} />
        <label class="sort">Sort by <select value={sort} onChange={(event) => setSort(event.currentTarget.value)}>
          {Object.entries(SORTS).map(([key, [text]]) => <option value={key}>{text}</option>)}</select></label>
      </div>
      {vms.length > 0 && <p class="key-line" aria-hidden="true">
        {PLACES.map(([, word, colour]) => <span><i style={{ background: `var(${colour})` }} />{word}</span>)}
        <span><i class="tick" />target</span><span><i class="dash" />active, with its error</span></p>}
      {vms.length === 0 && <p class="empty">No VM runs under Ballast. Start one: <code>ballast run --name web1 --memory 4G -- …</code></p>}
      {vms.length > 0 && found.length === 0 && <p class="empty">No VM matches.</p>}
      <div class="cards">
        {found.slice(0, shown).map((vm) => <Card key={vm.name} vm={vm} values={lately(live, vm.name)} onWhy={onWhy} />)}
      </div>
      {found.length > shown && <button type="button" class="more" onClick={() => setShown(shown + SHOWN)}>
        Show {Math.min(SHOWN, found.length - shown)} more of {found.length - shown}</button>}
    </section>
  );
}
