// Shows what /events tells. The countdowns run here, from what was told last.
"use strict";

const SPAN = 60_000; // what the time line shows
const CHIPS = 12; // shards that a lane shows
const LABELLED = 8; // more buckets than that have marks without numbers
const ROWS = 16; // and share so many rows
const DEAF = 25_000; // the server says something every ten seconds

const at = (id) => document.getElementById(id);
const say = (id, text) => put(at(id), text);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let state = null; // what was told last,
let told = 0; // and when
let heard = 0; // when the server was last heard
let lost = false;
let source = null;

// Only what differs is written: a screen reader would read it again.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function count(n) {
  return n.toLocaleString("en-US");
}

function many(n, one, more) {
  return `${count(n)} ${n === 1 ? one : more}`;
}

function span(ms) {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// ---- the connection

function connect() {
  if (source) source.close();
  heard = performance.now();
  source = new EventSource("events");
  source.addEventListener("state", (event) => {
    state = JSON.parse(event.data);
    told = performance.now();
    hear();
    show();
  });
  source.addEventListener("alive", hear);
  source.addEventListener("error", () => {
    lost = true;
    verdict();
    // The browser comes back by itself, but for an answer that it did not expect.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

function hear() {
  heard = performance.now();
  if (lost) {
    lost = false;
    verdict();
  }
}

// ---- what it all comes to

function verdict() {
  const link = at("link");
  put(link, lost ? "not connected" : state ? "live" : "connecting");
  link.dataset.on = lost ? "lost" : state ? "yes" : "no";
  document.body.classList.toggle("lost", lost);
  const [mood, headline, why, command] = judge();
  at("verdict").dataset.mood = mood;
  put(at("headline"), headline);
  put(at("message"), why);
  put(at("command"), command ?? "");
  at("command").hidden = !command;
}

function judge() {
  if (lost) {
    const rest = state ? "What is below was true when it was last heard." : "Nothing was heard of it yet.";
    return ["bad", "Not connected", `The queue does not answer this page, which tries again by itself. ${rest}`];
  }
  if (!state) return ["quiet", "Connecting", "The queue has not told anything yet."];
  if (state.message) {
    const waits = state.blocked_by && state.blocked_by.startsWith("session_starts");
    const headline = state.role === "follower" ? "The leader does not answer" : "Nothing is granted";
    return [waits ? "warn" : "bad", headline, state.message];
  }
  if (state.role === "follower") {
    const pod = state.leader_pod;
    const leader = pod ?? `The pod at ${state.leader}`;
    const namespace = state.namespace ? `--namespace ${state.namespace} ` : "";
    const command = pod && `kubectl ${namespace}port-forward pod/${pod} ${state.admin_port}`;
    const where = command ? " To see its buckets, open its page:" : "";
    return ["quiet", "This pod follows", `${leader} leads and has the buckets; this pod asks it for its clients.${where}`, command];
  }
  if (state.waiting === 0) return ["good", "Ready", "Nobody waits. A shard that asks is granted as soon as its bucket is free."];
  return ["good", "Turns are granted", `In each bucket, one shard every ${state.spacing_ms / 1000} s.`];
}

// ---- what only changes when something is told

function show() {
  const leads = state.role === "leader";
  verdict();
  say("pod", state.pod ? (state.namespace ? `${state.namespace}/${state.pod}` : state.pod) : "");
  say("version", `gateway-queue ${state.version}`);
  document.title = state.waiting ? `(${count(state.waiting)}) gateway-queue` : "gateway-queue";

  const names = { leads: state.pod ?? "This process", lapsed: "Not certain", follows: state.leader_pod ?? state.leader, seeks: "Nobody" };
  const notes = {
    leads: state.pod ? "this pod" : "it runs alone",
    lapsed: "this pod could not renew its Lease",
    follows: "this pod follows",
    seeks: "or it is not known who",
  };
  say("leader", names[state.role]);
  at("leader").classList.toggle("long", names[state.role].length > 14);
  say("leader-note", notes[state.role]);

  const starts = leads ? state.session_starts : null;
  const none = state.token === "none";
  say("starts", starts ? count(starts.remaining) : none && leads ? "any" : "–");
  say("starts-total", starts ? `of ${count(starts.total)}` : "");
  const usable = starts ? Math.max(0, starts.remaining - starts.reserve) : 0;
  const meter = at("meter");
  meter.hidden = !starts;
  meter.dataset.mood = usable === 0 ? "bad" : starts && usable < starts.total / 10 ? "warn" : "good";
  meter.firstElementChild.style.transform = `scaleX(${starts && starts.total ? Math.min(1, starts.remaining / starts.total) : 0})`;

  const words = { none: "No token", missing: "Missing", unchecked: "Not checked", accepted: "Accepted", rejected: "Rejected" };
  const moods = { missing: "bad", rejected: "bad", accepted: state.last_error ? "warn" : "good" };
  say("token", leads || state.token === "missing" ? words[state.token] : "–");
  at("token-dot").dataset.mood = leads ? moods[state.token] ?? "quiet" : "quiet";

  say("waiting", count(leads ? state.waiting : state.held_requests));
  say("waiting-note", leads ? `${count(state.held_requests)} held by this ${state.pod ? "pod" : "process"}` : "held by this pod");

  lanes();
  marks();
  tick();
}

function lanes() {
  const list = at("lanes");
  const focused = document.activeElement;
  const old = new Map([...list.children].map((lane) => [lane.dataset.bucket, lane]));
  state.buckets.forEach((bucket, n) => {
    const key = String(bucket.bucket);
    const lane = old.get(key) ?? newLane(key);
    old.delete(key);
    fill(lane, bucket);
    if (list.children[n] !== lane) list.insertBefore(lane, list.children[n] ?? null);
  });
  for (const lane of old.values()) lane.remove();
  // One that was moved has lost it.
  if (focused !== document.activeElement && list.contains(focused)) focused.focus({ preventScroll: true });

  const seen = state.buckets.reduce((sum, bucket) => sum + bucket.waiting, 0);
  const hidden = state.bucket_count - state.buckets.length;
  at("more").hidden = hidden <= 0;
  say("more", `${many(hidden, "more bucket is", "more buckets are")} not shown; ${count(state.waiting - seen)} wait there.`);
  const busy = `${many(state.bucket_count, "bucket", "buckets")}, ${state.spacing_ms / 1000} s between two grants of one`;
  say("spacing", state.bucket_count ? busy : "The buckets are the leader's.");
}

function newLane(key) {
  const make = (name, ...children) => {
    const element = document.createElement(name);
    element.append(...children);
    return element;
  };
  const next = make("p");
  next.className = "next";
  const line = make("div");
  line.className = "line";
  const lane = make("li", make("h3", `Bucket ${key}`, make("small")), next, line, make("i"));
  lane.className = "lane";
  lane.tabIndex = 0;
  lane.dataset.bucket = key;
  return lane;
}

function fill(lane, bucket) {
  put(lane.querySelector("small"), bucket.waiting ? `${count(bucket.waiting)} ${bucket.waiting === 1 ? "waits" : "wait"}` : "");
  const shards = bucket.shards.slice(0, CHIPS);
  const rest = bucket.waiting - shards.length;
  const word = rest > 0 ? `${count(rest)} more` : bucket.waiting ? "" : "nobody waits";
  const line = lane.querySelector(".line");
  const key = `${shards} ${word}`;
  if (line.dataset.key === key) return;
  line.dataset.key = key;
  const chip = (name, text) => {
    const element = document.createElement(name);
    element.textContent = text;
    return element;
  };
  // With a space in between, for those who hear it or copy it.
  const chips = shards.flatMap((shard) => [chip("b", shard), " "]);
  line.replaceChildren(...chips, ...(word ? [chip("span", word)] : []));
}

function marks() {
  const dense = state.bucket_count > LABELLED;
  const rows = dense ? ROWS : Math.max(1, state.bucket_count);
  const track = at("track");
  track.classList.toggle("dense", dense);
  track.style.setProperty("--rows", rows);
  const height = 100 / rows;
  track.replaceChildren(
    ...state.last_grants
      .filter((grant) => grant.granted_ms_ago < SPAN)
      .map((grant) => {
        const mark = document.createElement("b");
        mark.textContent = grant.shard;
        mark.title = `shard ${grant.shard}, bucket ${grant.bucket}`;
        mark.dataset.ago = grant.granted_ms_ago;
        mark.style.top = `calc(${(grant.bucket % rows) * height}% + 1px)`;
        return mark;
      }),
  );
}

// ---- what changes by itself

function tick() {
  const now = performance.now();
  if (now - heard > DEAF) {
    lost = true;
    verdict();
    connect();
  }
  if (!state) return;
  const passed = lost ? 0 : now - told;
  const until = (ms) => Math.max(0, ms - passed);
  const leads = state.role === "leader";

  for (const lane of at("lanes").children) {
    const bucket = state.buckets.find((bucket) => String(bucket.bucket) === lane.dataset.bucket);
    const held = bucket.next_grant_in_ms === null;
    const left = held ? 0 : until(bucket.next_grant_in_ms);
    lane.dataset.state = held ? "held" : bucket.waiting ? "soon" : "idle";
    const soon = left === 0 ? "now" : `in ${span(left)}`;
    put(lane.querySelector(".next"), held ? "held" : bucket.waiting ? `next ${soon}` : left === 0 ? "free" : `free ${soon}`);
    const share = left && state.spacing_ms ? Math.min(1, left / state.spacing_ms) : 0;
    lane.lastElementChild.style.transform = `scaleX(${share})`;
  }

  for (const mark of [...at("track").children]) {
    const ago = Number(mark.dataset.ago) + passed;
    if (ago > SPAN * 1.05) mark.remove();
    mark.style.left = `${100 - (ago / SPAN) * 100}%`;
    mark.classList.toggle("new", ago < 1500);
  }
  const [last] = state.last_grants;
  say("last", last ? `shard ${last.shard} of bucket ${last.bucket}, ${span(last.granted_ms_ago + passed)} ago` : "none since this process started");

  const starts = leads ? state.session_starts : null;
  const reserve = starts && starts.reserve ? `, ${count(starts.reserve)} in reserve` : "";
  const window = starts && (starts.reset_in_ms === null ? "no window is open" : `new ones in ${span(until(starts.reset_in_ms))}`);
  say("starts-note", starts ? window + reserve : !leads ? "the leader counts them" : state.token === "none" ? "not counted without a token" : "Discord has not said");
  const asked = state.next_fetch_in_ms === null ? "Discord is being asked" : `Discord is asked again in ${span(until(state.next_fetch_in_ms))}`;
  const quiet = { none: "Discord is not asked", missing: "Discord is not asked" }[state.token];
  const note = leads ? quiet ?? asked : "the leader asks Discord";
  say("token-note", state.last_error && leads && !state.message ? `${note}; last: ${state.last_error}` : note);
}

let ticking = 0;
function pace() {
  clearInterval(ticking);
  if (!document.hidden) ticking = setInterval(tick, calm.matches ? 1000 : 250);
}

// Who does not look costs the queue nothing.
document.addEventListener("visibilitychange", () => {
  pace();
  if (document.hidden) source.close();
  else connect();
});
calm.addEventListener("change", pace);
connect();
pace();
