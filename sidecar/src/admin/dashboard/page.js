// Shows the state that /events sends. Countdowns run here, from the last report.
"use strict";

const TIMELINE_MS = 60_000;
const MAX_SHARDS = 12; // shown per bucket and list
const MAX_LABELLED = 8; // with more buckets, the timeline has marks without numbers
const DENSE_ROWS = 16; // of the timeline then
const TIMEOUT_MS = 25_000; // the server sends an event every ten seconds

const at = (id) => document.getElementById(id);
const setText = (id, text) => put(at(id), text);
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

let state = null; // the last report
let reportedAt = 0;
let lastEventAt = 0;
let lost = false;
let source = null;

// Writes only changed text: a screen reader would read it again.
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

// Where the buckets are, if not here.
function elsewhere() {
  return state.role === "agent" ? "upstream" : "leader";
}

// ---- the connection

function connect() {
  if (source) source.close();
  lastEventAt = performance.now();
  source = new EventSource("events");
  source.addEventListener("state", (event) => {
    state = JSON.parse(event.data);
    reportedAt = performance.now();
    received();
    show();
  });
  source.addEventListener("alive", received);
  source.addEventListener("error", () => {
    lost = true;
    showStatus();
    // The browser reconnects by itself, except after an unexpected response.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

function received() {
  lastEventAt = performance.now();
  if (lost) {
    lost = false;
    showStatus();
  }
}

// ---- the status

function showStatus() {
  const link = at("link");
  put(link, lost ? "not connected" : state ? "live" : "connecting");
  link.dataset.state = lost ? "lost" : state ? "live" : "connecting";
  document.body.classList.toggle("lost", lost);
  const [level, headline, message, command] = summary();
  at("status").dataset.level = level;
  put(at("headline"), headline);
  put(at("message"), message);
  put(at("command"), command ?? "");
  at("command").hidden = !command;
}

function summary() {
  if (lost) {
    const rest = state ? "The data below is from its last report." : "It has not reported anything yet.";
    return ["bad", "Not connected", `The queue does not respond; the page retries. ${rest}`];
  }
  if (!state) return ["none", "Connecting", "Waiting for the queue's first status report."];
  if (state.message) {
    const passes = state.blocked_by && state.blocked_by.startsWith("session_starts");
    const silent = { follower: "The leader does not respond", agent: "The upstream does not respond" };
    const headline = silent[state.role] ?? "Nothing is granted";
    return [passes ? "warn" : "bad", headline, state.message];
  }
  if (state.role === "follower") {
    const pod = state.leader_pod;
    const leader = pod ?? `The pod at ${state.leader}`;
    const namespace = state.namespace ? `--namespace ${state.namespace} ` : "";
    const command = pod && `kubectl ${namespace}port-forward pod/${pod} ${state.admin_port}`;
    const where = command ? " To see the buckets, open its page:" : "";
    return ["none", "This pod is a follower", `${leader} is the leader and has the buckets. This pod forwards requests to it.${where}`, command];
  }
  if (state.role === "agent") {
    return ["none", "This is an agent", `It forwards requests to the queue at ${state.upstream}, which has the buckets.`];
  }
  if (state.waiting === 0) return ["good", "Ready", "No requests are waiting. A request is granted as soon as its bucket is free."];
  return ["good", "Granting", `In each bucket, one shard every ${state.spacing_ms / 1000} s.`];
}

// ---- what changes with a report

function show() {
  const isLeader = state.role === "leader";
  showStatus();
  setText("pod", state.pod ? (state.namespace ? `${state.namespace}/${state.pod}` : state.pod) : "");
  setText("version", `gateway-queue ${state.version}`);
  document.title = state.waiting ? `(${count(state.waiting)}) gateway-queue` : "gateway-queue";

  const isAgent = state.role === "agent";
  const names = {
    leader: state.pod ?? "This process",
    expired: "Unknown",
    follower: state.leader_pod ?? state.leader,
    none: "None",
    agent: state.upstream,
  };
  const notes = {
    leader: state.pod ? "this pod" : "there are no other pods",
    expired: "this pod could not renew its Lease",
    follower: "this pod is a follower",
    none: "or unknown to this pod",
    agent: "this process is its agent",
  };
  setText("leader-title", isAgent ? "Upstream" : "Leader");
  setText("leader", names[state.role]);
  at("leader").classList.toggle("long", names[state.role].length > 14);
  setText("leader-note", notes[state.role]);

  const starts = isLeader ? state.session_starts : null;
  const none = state.token === "none";
  setText("starts", starts ? count(starts.remaining) : none && isLeader ? "∞" : "–");
  setText("starts-total", starts ? `of ${count(starts.total)}` : "");
  const usable = starts ? Math.max(0, starts.remaining - starts.reserve) : 0;
  const meter = at("meter");
  meter.hidden = !starts;
  meter.dataset.level = usable === 0 ? "bad" : starts && usable < starts.total / 10 ? "warn" : "good";
  meter.firstElementChild.style.transform = `scaleX(${starts && starts.total ? Math.min(1, starts.remaining / starts.total) : 0})`;

  const words = { none: "No token", missing: "Missing", unchecked: "Not checked", accepted: "Accepted", rejected: "Rejected" };
  const levels = { missing: "bad", rejected: "bad", accepted: state.last_error ? "warn" : "good" };
  setText("token", isLeader || state.token === "missing" ? words[state.token] : "–");
  at("token-dot").dataset.level = isLeader ? levels[state.token] ?? "none" : "none";

  setText("waiting", count(isLeader ? state.waiting : state.held_requests));
  setText("waiting-note", isLeader ? `${count(state.held_requests)} connected to this ${state.pod ? "pod" : "process"}` : `connected to this ${isAgent ? "agent" : "pod"}`);

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
  // A lane that was moved has lost the focus.
  if (focused !== document.activeElement && list.contains(focused)) focused.focus({ preventScroll: true });

  const seen = state.buckets.reduce((sum, bucket) => sum + bucket.waiting, 0);
  const hidden = state.bucket_count - state.buckets.length;
  at("more").hidden = hidden <= 0;
  setText("more", `${many(hidden, "more bucket is", "more buckets are")} not shown, with ${many(state.waiting - seen, "waiting request", "waiting requests")}.`);
  const busy = `${many(state.bucket_count, "bucket", "buckets")}, each with one grant every ${state.spacing_ms / 1000} s`;
  setText("spacing", state.bucket_count ? busy : `Only the ${elsewhere()} has buckets.`);
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
  put(lane.querySelector("small"), bucket.waiting ? `${count(bucket.waiting)} waiting` : "");
  const shards = bucket.shards.slice(0, MAX_SHARDS);
  const rest = bucket.waiting - shards.length;
  const word = rest > 0 ? `${count(rest)} more` : bucket.waiting ? "" : "none waiting";
  const line = lane.querySelector(".line");
  const key = `${shards} ${word}`;
  if (line.dataset.key === key) return;
  line.dataset.key = key;
  const chip = (name, text) => {
    const element = document.createElement(name);
    element.textContent = text;
    return element;
  };
  // With a space in between, for screen readers and the clipboard.
  const chips = shards.flatMap((shard) => [chip("b", shard), " "]);
  line.replaceChildren(...chips, ...(word ? [chip("span", word)] : []));
}

function marks() {
  const dense = state.bucket_count > MAX_LABELLED;
  const rows = dense ? DENSE_ROWS : Math.max(1, state.bucket_count);
  const track = at("track");
  track.classList.toggle("dense", dense);
  track.style.setProperty("--rows", rows);
  const height = 100 / rows;
  track.replaceChildren(
    ...state.last_grants
      .filter((grant) => grant.granted_ms_ago < TIMELINE_MS)
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

// What happened last to a shard, and when; null if it is connected.
function notReady(shard) {
  const { last_grant_ms_ago: granted, last_report: report, last_report_ms_ago: reported } = shard;
  if (reported === null || (granted !== null && granted < reported)) return ["granted", granted];
  return report === "ready" || report === "resumed" ? null : [report, reported];
}

function list(id, name, all) {
  const more = all.length > MAX_SHARDS ? "; …" : "";
  setText(id, all.length ? `${name}: ${all.slice(0, MAX_SHARDS).join("; ")}${more}` : "");
}

// ---- what changes with time

function tick() {
  const now = performance.now();
  if (now - lastEventAt > TIMEOUT_MS) {
    lost = true;
    showStatus();
    connect();
  }
  if (!state) return;
  const passed = lost ? 0 : now - reportedAt;
  const until = (ms) => Math.max(0, ms - passed);
  const isLeader = state.role === "leader";

  for (const lane of at("lanes").children) {
    const bucket = state.buckets.find((bucket) => String(bucket.bucket) === lane.dataset.bucket);
    const blocked = bucket.next_grant_in_ms === null;
    const left = blocked ? 0 : until(bucket.next_grant_in_ms);
    lane.dataset.state = blocked ? "blocked" : bucket.waiting ? "waiting" : "idle";
    const soon = left === 0 ? "now" : `in ${span(left)}`;
    put(lane.querySelector(".next"), blocked ? "blocked" : bucket.waiting ? `next ${soon}` : left === 0 ? "free" : `free ${soon}`);
    const share = left && state.spacing_ms ? Math.min(1, left / state.spacing_ms) : 0;
    lane.lastElementChild.style.transform = `scaleX(${share})`;
  }

  for (const mark of [...at("track").children]) {
    const ago = Number(mark.dataset.ago) + passed;
    if (ago > TIMELINE_MS * 1.05) mark.remove();
    mark.style.left = `${100 - (ago / TIMELINE_MS) * 100}%`;
    mark.classList.toggle("new", ago < 1500);
  }
  const [last] = state.last_grants;
  setText("last", last ? `shard ${last.shard} of bucket ${last.bucket}, ${span(last.granted_ms_ago + passed)} ago` : "none in this term");

  const looping = state.crash_looping.map(({ shard, released_in_ms }) => {
    const left = until(released_in_ms);
    return `shard ${shard}, next grant ${left === 0 ? "now" : `in ${span(left)}`}`;
  });
  // Without any report, nothing is known.
  const known = state.shards.some((shard) => shard.last_report) ? state.shards : [];
  const unready = known.flatMap((shard) => {
    const last = notReady(shard);
    return last ? [`shard ${shard.shard} ${last[0]} ${span(last[1] + passed)} ago`] : [];
  });
  list("crash-loop", "Crash loop", looping);
  list("not-ready", "Not ready", unready);
  at("shards").hidden = !looping.length && !unready.length;

  const starts = isLeader ? state.session_starts : null;
  const reserve = starts && starts.reserve ? `, ${count(starts.reserve)} in reserve` : "";
  const window = starts && (starts.reset_in_ms === null ? "no window is open" : `reset in ${span(until(starts.reset_in_ms))}`);
  setText("starts-note", starts ? window + reserve : !isLeader ? `counted by the ${elsewhere()}` : state.token === "none" ? "not counted without a token" : "not reported by Discord yet");
  const fetching = state.next_fetch_in_ms === null ? "waiting for Discord" : `next request to Discord in ${span(until(state.next_fetch_in_ms))}`;
  const idle = { none: "no requests to Discord", missing: "no requests to Discord" }[state.token];
  const note = isLeader ? idle ?? fetching : `checked by the ${elsewhere()}`;
  setText("token-note", state.last_error && isLeader && !state.message ? `${note}; last error: ${state.last_error}` : note);
}

let ticking = 0;
function pace() {
  clearInterval(ticking);
  if (!document.hidden) ticking = setInterval(tick, reducedMotion.matches ? 1000 : 250);
}

// A hidden page costs the queue nothing.
document.addEventListener("visibilitychange", () => {
  pace();
  if (document.hidden) source.close();
  else connect();
});
reducedMotion.addEventListener("change", pace);
connect();
pace();
