// The key is in this variable only: a reload forgets it.
let key = "";
let timer = 0;
let selected = null;
let logged = null;
const INTERVAL_MS = 5000;
const MAX_POINTS = 120;
const NONE = "–";
const series = new Map();
const $ = (id) => document.getElementById(id);

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes || {})) {
    if (attribute === "onclick") made.addEventListener("click", value);
    else made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

function say(text, isBad) {
  $("message").textContent = text;
  $("message").className = isBad ? "bad" : "good";
}

async function ask(method, path, body) {
  const headers = { Authorization: "Bearer " + key };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const request = { method, headers, cache: "no-store", credentials: "omit" };
  if (body !== undefined) request.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Error("The backend does not answer.");
  }
  const text = await response.text();
  let reply = {};
  try {
    reply = text === "" ? {} : JSON.parse(text);
  } catch {
    throw new Error("What answered is not the backend: status " + response.status + ".");
  }
  if (response.ok) return reply;
  const error = new Error(reply.detail || reply.title || "Status " + response.status);
  error.isRejected = response.status === 401;
  throw error;
}

function duration(seconds) {
  if (seconds < 60) return seconds + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  return Math.floor(seconds / 3600) + " h";
}

// Columns are [title, class, cell of a row].
function table(id, columns, rows, empty) {
  const head = element("tr", {}, ...columns.map(([title, kind]) => element("th", { class: kind, scope: "col" }, title)));
  const body = rows.map((row) => element("tr", {}, ...columns.map(([title, kind, cell]) => {
    const content = cell(row);
    return element("td", { class: content === NONE ? kind + " none" : kind, "data-name": title }, ...(Array.isArray(content) ? content : [String(content)]));
  })));
  if (rows.length === 0) {
    body.push(element("tr", {}, element("td", { class: "empty secondary", colspan: columns.length }, empty)));
  }
  $(id).replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

function sparkline(name, value) {
  const points = series.get(name) || [];
  points.push(value);
  if (points.length > MAX_POINTS) points.shift();
  series.set(name, points);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const most = Math.max(1, ...points);
  const x = (index) => points.length < 2 ? 0 : (index * 100) / (points.length - 1);
  const drawn = points.length < 2 ? [value, value] : points;
  const at = (each, index) => (points.length < 2 ? index * 100 : x(index)).toFixed(1) + "," + (28 - (each * 26) / most).toFixed(1);
  line.setAttribute("points", drawn.map(at).join(" "));
  svg.append(line);
  return svg;
}

function number(name, value, isBad) {
  const shown = element("b", isBad ? { class: "bad" } : {}, value.toLocaleString());
  return element("div", { class: "number" }, name, shown, sparkline(name, value));
}

function button(title, kind, act) {
  return element("button", { class: kind, type: "button", onclick: act }, title);
}

// Resolves with the answers, or with null.
function confirmed(question, action, isBan) {
  $("question").textContent = question;
  $("yes").textContent = action;
  $("reason_label").hidden = $("hours_label").hidden = !isBan;
  $("reason").value = $("hours").value = "";
  const dialog = $("confirm");
  dialog.returnValue = "no";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? { reason: $("reason").value, hours: Number($("hours").value) } : null);
    }, { once: true });
    dialog.showModal();
  });
}

async function act(method, path, done, body) {
  try {
    await ask(method, path, body);
    say(done, false);
  } catch (error) {
    say(error.message, true);
  }
  await refresh();
}

async function drain(server) {
  if (server.drain_requested) {
    await act("DELETE", serverPath(server.server_id, "drain"), server.name + " need not drain any more, if it has not begun.");
  } else if (await confirmed(server.name + " shuts down with its next heartbeat: progress is saved, and its " + server.players + " players are disconnected.", "Drain")) {
    await act("PUT", serverPath(server.server_id, "drain"), server.name + " drains with its next heartbeat.");
  }
}

async function endRoom(server) {
  if (await confirmed(server.name + ": all " + server.players + " players are disconnected, and the server leaves.", "End room")) {
    await act("DELETE", serverPath(server.server_id, "room"), server.name + " ends with its next heartbeat.");
  }
}

async function kick(player) {
  if (await confirmed(player.display_name + " is disconnected from every server, and may log in again.", "Kick")) {
    await act("DELETE", playerPath(player.player_id, "/sessions"), player.display_name + " is logged out; game servers disconnect them with their next heartbeat.");
  }
}

async function ban(player) {
  const answers = await confirmed(player.display_name + " is disconnected, and may not log in.", "Ban", true);
  if (answers === null) return;
  const body = { reason: answers.reason };
  if (answers.hours > 0) body.seconds = Math.round(answers.hours * 3600);
  await act("PUT", playerPath(player.player_id, "/ban"), player.display_name + " is banned.", body);
}

const serverPath = (id, what) => "v1/admin/servers/" + encodeURIComponent(id) + "/" + what;
const playerPath = (id, what) => "v1/admin/players/" + encodeURIComponent(id) + what;
const kickAndBan = (player) => [button("Kick", "", () => kick(player)), button("Ban", "danger", () => ban(player))];

function status(server) {
  const kinds = { ready: "good", draining: "warn", unhealthy: "bad", lost: "bad" };
  const text = server.drain_requested && server.status === "ready" ? "drain requested" : server.status;
  return [element("span", { class: text === "drain requested" ? "warn" : kinds[server.status] || "" }, text)];
}

function serverActions(server) {
  if (server.status === "lost") return [];
  return [
    button("Players", "", () => { selected = server; refresh(); }),
    button(server.drain_requested ? "Do not drain" : "Drain", "", () => drain(server)),
    button("End room", "danger", () => endRoom(server)),
  ];
}

function show(overview) {
  $("scope").textContent = overview.scope + " · backend " + overview.backend_version;
  $("updated").textContent = "Updated " + new Date().toLocaleTimeString();
  const waiting = overview.queues.reduce((sum, queue) => sum + queue.searching, 0);
  const late = (server) => server.heartbeat_age_seconds > 2 * overview.heartbeat_seconds;
  $("numbers").replaceChildren(
    number("Players", overview.players),
    number("Live servers", overview.live_servers),
    number("Tickets searching", waiting),
    number("Late heartbeats", overview.servers.filter((server) => server.status !== "lost" && late(server)).length, overview.servers.some((server) => server.status !== "lost" && late(server))),
    number("Conflicts", overview.conflicts, overview.conflicts > 0),
    number("Accounts", overview.accounts),
  );
  table("servers", [
    ["Name", "long", (server) => server.name],
    ["Status", "", status],
    ["Players", "count", (server) => server.players + (server.reserved > 0 ? " + " + server.reserved : "") + " of " + server.max_players],
    ["Heartbeat", "count", (server) => [element("span", { class: late(server) ? "bad" : "" }, duration(server.heartbeat_age_seconds))]],
    ["Mode", "", (server) => [server.mode, server.map].filter((text) => text !== "").join(" · ") || NONE],
    ["Region", "", (server) => server.region || NONE],
    ["Version", "", (server) => server.version || NONE],
    ["Room", "", (server) => server.visibility],
    ["Address", "address", (server) => server.address],
    ["", "actions", serverActions],
  ], overview.servers, "No server is registered.");
  table("queues", [
    ["Matchmaker", "", (queue) => queue.matchmaker],
    ["Parties", "count", (queue) => queue.queued],
    ["Searching", "count", (queue) => queue.searching],
    ["To accept", "count", (queue) => queue.requires_acceptance],
    ["Placing", "count", (queue) => queue.placing],
    ["Oldest", "count", (queue) => queue.oldest_seconds === 0 ? NONE : duration(queue.oldest_seconds)],
  ], overview.queues, "This backend has no matchmaking.");
  table("versions", [
    ["Version", "", (version) => version.version || "not stated"],
    ["Servers", "count", (version) => version.servers],
    ["Players", "count", (version) => version.players],
  ], overview.versions, "No server is registered.");
}

const called = (allocation) => allocation.name || (allocation.is_spare ? "Spare" : "Room");

function allocationStatus(allocation) {
  const kinds = { ready: "good", starting: "warn", requested: "warn", failed: "bad" };
  return [element("span", { class: kinds[allocation.status] || "" }, allocation.status)];
}

async function showAllocations() {
  const { is_enabled, allocations } = await ask("GET", "v1/admin/allocations");
  $("on_demand").hidden = !is_enabled && allocations.length === 0;
  const showLog = (allocation) => { logged = allocation; refresh(); };
  const time = (text) => new Date(text).toLocaleTimeString();
  table("allocations", [
    ["Name", "long", called],
    ["Status", "", allocationStatus],
    ["Why", "long", (allocation) => allocation.reason || NONE],
    ["Requested", "", (allocation) => time(allocation.created_at)],
    ["Ended", "", (allocation) => allocation.ended_at ? time(allocation.ended_at) : NONE],
    ["Creator", "long", (allocation) => allocation.creator || NONE],
    ["Id", "long", (allocation) => allocation.allocation_id],
    ["", "actions", (allocation) => allocation.is_here ? [button("Log", "", () => showLog(allocation))] : NONE],
  ], allocations, "No server was started on demand within the last hour.");
}

async function showLog() {
  $("log").hidden = logged === null;
  if (logged === null) return;
  const { lines } = await ask("GET", "v1/admin/allocations/" + encodeURIComponent(logged.allocation_id) + "/log");
  $("log_title").textContent = "Last lines of " + called(logged) + ", " + logged.allocation_id;
  // Text, never markup: a server prints what its players have written.
  $("log_lines").textContent = lines === "" ? "It has printed nothing, or its log was removed." : lines;
}

async function showPlayers() {
  $("on_server").hidden = selected === null;
  if (selected === null) return;
  const { players } = await ask("GET", serverPath(selected.server_id, "players"));
  $("on_server_title").textContent = "Players of " + selected.name;
  table("players", [
    ["Name", "long", (player) => player.display_name],
    ["Id", "long", (player) => player.player_id],
    ["", "actions", kickAndBan],
  ], players, "The server holds the documents of no player.");
}

async function showPlayer() {
  const id = $("player_id").value.trim();
  if (id === "") return;
  const found = await ask("GET", playerPath(id, ""));
  const player = { player_id: id, display_name: found.account.display_name };
  const unban = () => act("DELETE", playerPath(id, "/ban"), player.display_name + " may log in again.");
  const banned = (each) => each.ban ? (each.ban.until ? "until " + each.ban.until : "for ever") + (each.ban.reason ? ": " + each.ban.reason : "") : "no";
  table("player", [
    ["Name", "", () => player.display_name],
    ["Since", "", (each) => each.created_at],
    ["Sessions", "count", (each) => each.sessions],
    ["Banned", "", banned],
    ["", "actions", (each) => each.ban ? [button("Unban", "", unban)] : kickAndBan(player)],
  ], [found], "");
}

function leave(text) {
  key = "";
  clearTimeout(timer);
  selected = logged = null;
  series.clear();
  for (const id of ["servers", "players", "allocations", "queues", "versions", "player", "numbers"]) $(id).replaceChildren();
  $("log_lines").textContent = $("log_title").textContent = "";
  for (const id of ["scope", "updated"]) $(id).textContent = "";
  $("player_id").value = "";
  $("content").hidden = $("leave").hidden = true;
  $("login").hidden = $("login_hint").hidden = false;
  say(text, text !== "");
  $("key").focus();
}

async function refresh() {
  clearTimeout(timer);
  const used = key;
  if (used === "") return;
  try {
    const overview = await ask("GET", "v1/admin/overview");
    if (used !== key) return;
    show(overview);
    $("login").hidden = $("login_hint").hidden = true;
    $("content").hidden = $("leave").hidden = false;
    await showPlayers();
    await showAllocations();
    await showLog();
    if ($("player").children.length > 0) await showPlayer();
  } catch (error) {
    if (used !== key) return;
    if (error.isRejected) {
      leave(error.message);
      return;
    }
    say(error.message, true);
  }
  timer = setTimeout(refresh, INTERVAL_MS);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  say("", false);
  refresh();
});
$("leave").addEventListener("click", () => leave(""));
$("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await showPlayer();
    say("", false);
  } catch (error) {
    $("player").replaceChildren();
    say(error.message, true);
  }
});
$("key").focus();
