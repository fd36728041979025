// The dashboard: state, picture, VMs, events.
import { render } from "preact";
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { Cards } from "./cards.jsx";
import { age, clock, percent, size } from "./format.js";
import { Live, why } from "./live.js";
import { Picture } from "./picture.jsx";
import "./style.css";

const STATES = {
  high: "plenty is free",
  clear: "enough is free",
  soft: "memory is being taken back gently",
  hard: "memory is being compressed and swapped out",
  low: "VMs above their target wait until memory has been taken back",
};
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };
const EVENTS_SHOWN = 60;

function useTheme() {
  const [choice, setChoice] = useState(() => localStorage.getItem("theme") ?? "auto");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const [systemDark, setSystemDark] = useState(dark.matches);
  useEffect(() => {
    const changed = () => setSystemDark(dark.matches);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  const theme = choice === "auto" ? (systemDark ? "dark" : "light") : choice;
  document.documentElement.dataset.theme = theme;
  const choose = (next) => {
    localStorage.setItem("theme", next);
    setChoice(next);
  };
  return [theme, choice, choose];
}

function Figure({ label, value, detail, tone }) {
  return <div class={`figure ${tone ?? ""}`}><dt>{label}</dt><dd>{value}<small>{detail}</small></dd></div>;
}

function Figures({ host }) {
  const of = (key) => host.vms.reduce((total, vm) => total + vm[key], 0);
  const [shared, part, compressed, arena, swapped] =
    ["shared_bytes", "share_part_bytes", "compressed_bytes", "arena_bytes", "swapped_bytes"].map(of);
  const ratio = host.budget_bytes > 0 ? host.promised_bytes / host.budget_bytes : 0;
  return (
    <dl class="figures" aria-label="Host in figures">
      <Figure label="Consumed" value={size(host.consumed_bytes)} detail={`${percent(host.consumed_bytes, host.budget_bytes)} of ${size(host.budget_bytes)}`} />
      <Figure label="Free" value={size(host.free_bytes)} detail={`soft below ${size(host.soft_bytes)}`} />
      <Figure label="Promised" value={size(host.promised_bytes)} detail={`${ratio.toFixed(2)} × the budget`} />
      <Figure label="Saved by sharing" value={size(Math.max(0, shared - part))} detail={`${size(shared)} on ${size(part)}`} />
      <Figure label="Compressed" value={size(compressed)} detail={`in ${size(arena)}`} />
      <Figure label="Swapped" value={size(swapped)} detail={`${percent(swapped, host.promised_bytes)} of promised`} />
    </dl>
  );
}

function Head({ live, choice, choose }) {
  const host = live.host;
  return (
    <header class="top">
      <a class="skip" href="#main">To the content</a>
      <h1><img src="/icon.svg" alt="" width="26" height="26" />Ballast</h1>
      {host && <p class="standing"><span class={`state ${host.state}`}>{host.state}</span>
        <span>{STATES[host.state] ?? ""}, for {age(host.state_ns / 1e9)}</span></p>}
      <p class="side">{host && <span>up {age(host.uptime_ns / 1e9)}</span>}<span>{live.version && `version ${live.version}`}</span></p>
      <label class="theme"><span class="hidden">Colours</span>
        <select value={choice} onChange={(event) => choose(event.currentTarget.value)}>
          {Object.entries(THEMES).map(([key, text]) => <option value={key}>{text}</option>)}</select></label>
    </header>
  );
}

function Events({ events }) {
  const [grave, setGrave] = useState(false);
  const shown = events.filter((event) => !grave || event.severity !== "info").slice(0, EVENTS_SHOWN);
  return (
    <section class="panel events" aria-labelledby="events-title">
      <div class="panel-head"><h2 id="events-title">Events</h2>
        <label class="check"><input type="checkbox" checked={grave} onChange={() => setGrave(!grave)} /> Warnings only</label></div>
      <ol aria-live="polite" aria-relevant="additions" tabIndex={0}>
        {shown.map((event) => (
          <li key={event.sequence} class={event.severity}>
            <time dateTime={new Date(event.unix_ms).toISOString()}>{clock(event.unix_ms)}</time>
            <div>{event.severity !== "info" && <span class="hidden">{event.severity}: </span>}
              {event.vm && <b>{event.vm}</b>} {event.message}</div>
          </li>))}
      </ol>
      {shown.length === 0 && <p class="empty">Nothing happened yet.</p>}
    </section>
  );
}

// "ballast why": sentences first, then lines of a word and what it says.
function WhyText({ text }) {
  const parts = text.trimEnd().split("\n").map((line) => {
    const labelled = /^ {2}(.{14})(.*)$/.exec(line);
    return labelled ? <div class="row"><dt>{labelled[1].trim()}</dt><dd>{labelled[2]}</dd></div> : <p>{line}</p>;
  });
  return <div class="why-text">{parts}</div>;
}

function Why({ name, onClose }) {
  const dialog = useRef(null);
  const [text, setText] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    dialog.current.showModal();
    let stopped = false;
    const ask = () => why(name).then((words) => stopped || (setText(words), setProblem(null)),
      (error) => stopped || setProblem(error.status ? error.message : "ballastd does not answer"));
    ask();
    const timer = setInterval(ask, 4000);
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }, [name]);
  return (
    <dialog ref={dialog} aria-labelledby="why-title" onClose={onClose}
      onClick={(event) => event.target === dialog.current && dialog.current.close()}>
      <div class="panel-head"><h2 id="why-title">Why {name} has what it has</h2>
        <button type="button" class="quiet" onClick={() => dialog.current.close()}>Close</button></div>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {text ? <WhyText text={text} /> : !problem && <p class="empty">Asking…</p>}
    </dialog>
  );
}

function App() {
  const [, changed] = useReducer((count) => count + 1, 0);
  const live = useRef(null);
  const [asked, setAsked] = useState(null);
  const [theme, choice, choose] = useTheme();
  if (live.current === null) live.current = new Live(changed);
  useEffect(() => live.current.start(), []);
  const { host, problem, unixMs } = live.current;
  return (
    <>
      <Head live={live.current} choice={choice} choose={choose} />
      <div role="status">{problem && <p class="problem"><b>Daemon not reachable.</b> {problem}. Guests go on meanwhile; this page tries again
        by itself.{unixMs > 0 && ` What you see is of ${clock(unixMs)}.`}</p>}</div>
      {host && (
        <main id="main" class={problem ? "stale" : ""}>
          <Figures host={host} />
          <div class="columns">
            <Picture live={live.current} theme={theme} />
            <Events events={live.current.events} />
          </div>
          <Cards live={live.current} onWhy={setAsked} />
        </main>)}
      {asked && <Why name={asked} onClose={() => setAsked(null)} />}
    </>
  );
}

render(<App />, document.getElementById("app"));
