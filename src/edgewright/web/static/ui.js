// Theme, keyboard shortcuts, selection of runs, live updates. Every page works without scripts.
(function () {
 "use strict";
 var find = function (selector, from) { return (from || document).querySelector(selector); };
 var all = function (selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); };
 var root = document.documentElement, body = document.body;

 // Theme
 function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
 }
 function turnTheme() {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("edgewright-theme", root.dataset.theme); } catch (error) { /* only for this page */ }
  document.dispatchEvent(new Event("theme"));
 }
 var themeButton = find("[data-theme-button]"), helpButton = find("[data-help-button]"), help = find("#help");
 if (themeButton) { themeButton.hidden = false; themeButton.addEventListener("click", turnTheme); }
 if (helpButton) { helpButton.hidden = false; helpButton.addEventListener("click", function () { help.showModal(); }); }

 // Times in the user's time zone
 function localTimes(from) {
  all("time[datetime]", from).forEach(function (element) {
   var moment = new Date(element.getAttribute("datetime"));
   if (isNaN(moment)) return;
   var now = new Date(), clock = { hour: "2-digit", minute: "2-digit" };
   element.textContent = moment.toDateString() === now.toDateString()
    ? moment.toLocaleTimeString([], clock)
    : moment.getFullYear() === now.getFullYear()
     ? moment.toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })
     : moment.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
  });
 }

 // Selection of runs: kept when the list is filtered or paged
 var chosen = new Set(), bar = find("[data-actions]");
 function showChosen() {
  all("tr[data-run]").forEach(function (row) {
   var box = find("input[name=run]", row);
   if (box) { box.checked = chosen.has(row.dataset.run); row.classList.toggle("picked", box.checked); }
  });
  var every = find("[data-all]");
  if (every) {
   every.hidden = false;
   var boxes = all("tr[data-run] input[name=run]");
   every.checked = boxes.length > 0 && boxes.every(function (box) { return box.checked; });
  }
  if (!bar) return;
  bar.hidden = chosen.size === 0;
  find("[data-chosen]", bar).textContent = chosen.size + (chosen.size === 1 ? " run" : " runs");
  all("input[data-kept]", bar).forEach(function (input) { input.remove(); });
  chosen.forEach(function (id) {  // runs on other pages of the list
   if (find('tr[data-run="' + id + '"]')) return;
   var input = document.createElement("input");
   input.type = "hidden"; input.name = "run"; input.value = id; input.dataset.kept = "";
   bar.appendChild(input);
  });
 }
 var lastBox = null;
 document.addEventListener("click", function (event) {
  var box = event.target;
  if (!(box instanceof HTMLInputElement) || box.type !== "checkbox") return;
  if (box.hasAttribute("data-all")) {
   all("tr[data-run]").forEach(function (row) { chosen[box.checked ? "add" : "delete"](row.dataset.run); });
   showChosen();
  } else if (box.name === "run" && box.closest("tr[data-run]")) {
   var boxes = all("tr[data-run] input[name=run]"), here = boxes.indexOf(box), before = boxes.indexOf(lastBox);
   var range = event.shiftKey && before >= 0 ? boxes.slice(Math.min(here, before), Math.max(here, before) + 1) : [box];
   range.forEach(function (one) { chosen[box.checked ? "add" : "delete"](one.value); });
   lastBox = box;
   showChosen();
  }
 });

 // Keyboard shortcuts
 var at = -1, waitsForPage = false;
 function rows() { return all("tr[data-run]"); }
 function move(step) {
  var list = rows();
  if (!list.length) return;
  at = Math.max(0, Math.min(list.length - 1, at + step));
  list.forEach(function (row, place) { row.classList.toggle("at", place === at); });
  var link = find("th a", list[at]);
  if (link) link.focus({ preventScroll: true });
  list[at].scrollIntoView({ block: "nearest" });
 }
 var pages = { a: "/activity", r: "/runs", m: "/models", d: "/devices", w: "/work" };
 document.addEventListener("keydown", function (event) {
  var field = event.target.closest && event.target.closest("input:not([type=checkbox]), select, textarea, dialog[open], canvas");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (field) { if (event.key === "Escape" && field.blur) field.blur(); return; }
  if (waitsForPage) { waitsForPage = false; if (pages[event.key]) { location.href = pages[event.key]; return; } }
  switch (event.key) {
   case "/": { var search = find("[data-search]") || find("#finder"); if (search) { search.focus(); search.select(); event.preventDefault(); } break; }
   case "n": { var opener = find("[data-drawer]"); if (opener) opener.click(); break; }
   case "j": move(1); break;
   case "k": move(-1); break;
   case "x": { var row = rows()[at]; if (row) { find("input[name=run]", row).click(); } break; }
   case "c": if (bar && chosen.size) bar.requestSubmit(find("button.main", bar)); break;
   case "g": waitsForPage = true; break;
   case "t": if (themeButton) turnTheme(); break;
   case "?": if (help) help.showModal(); break;
  }
 });
 document.addEventListener("click", function (event) {  // a click outside closes the menus
  all("details.menu[open]").forEach(function (menu) { if (!menu.contains(event.target)) menu.open = false; });
 });

 // After a fragment of the page was replaced
 var wasTyped = false;
 function keepAddress() {  // the state of a list is its address; typing a word adds one history entry, not one per letter
  var part = find("[data-address]"), address = part && part.dataset.address.replace("#layers", "");
  if (!part || address === location.pathname + location.search) return;
  var types = document.activeElement && document.activeElement.type === "search";
  history[types && wasTyped ? "replaceState" : "pushState"](null, "", address);
  wasTyped = types;
  var jsonLink = find("[data-json]");
  if (jsonLink) jsonLink.href = address.replace(/(\?|$)/, ".json$1");
 }
 window.addEventListener("popstate", function () { location.reload(); });
 function arrived() { localTimes(); at = -1; showChosen(); }
 var opened = [];
 document.addEventListener("htmx:before:swap", function () {
  opened = all("details[data-session][open]").map(function (one) { return one.dataset.session; });
 });
 document.addEventListener("htmx:after:swap", function () {
  all("details[data-session]").forEach(function (one) { if (opened.indexOf(one.dataset.session) >= 0) one.open = true; });
  keepAddress();
  arrived();
  document.dispatchEvent(new Event("arrived"));
 });
 window.addEventListener("pageshow", function () {
  all("input[name=run]:checked").forEach(function (box) { if (box.closest("tr[data-run]")) chosen.add(box.value); });
  arrived();
 });

 // Live updates
 function lasting(seconds) {
  return seconds < 60 ? Math.round(seconds) + " s" : Math.floor(seconds / 60) + " min " + Math.round(seconds % 60) + " s";
 }
 function toast(text, href) {
  var box = find("[data-toasts]"), note = document.createElement(href ? "a" : "div");
  if (!box) return;
  var holder = document.createElement("div");
  holder.className = "toast";
  note.textContent = text;
  if (href) note.href = href;
  holder.appendChild(note);
  box.appendChild(holder);
  setTimeout(function () { holder.remove(); }, 8000);
 }
 function showBusy(job) {
  var busy = find("[data-busy]");
  if (busy) {
   busy.hidden = job.state !== "running";
   busy.href = "/work/" + job.id;
   busy.textContent = job.total ? job.finished + " of " + job.total + (job.left_s === null ? "" : " · " + lasting(job.left_s) + " left") : "Job runs";
  }
 }
 function showJob(job) {
  showBusy(job);
  var page = find('[data-job="' + job.id + '"]');
  if (page && page.dataset.state !== job.state) { location.reload(); return; }
  if (body.dataset.page === "work" && !page) {
   var item = find('[data-job-row="' + job.id + '"]');
   if (!item || item.dataset.state !== job.state) body.dispatchEvent(new Event("jobs-changed"));
  }
  if (!page && (job.state === "done" || job.state === "failed"))
   toast(job.title + ": " + job.state, "/work/" + job.id);
 }
 function showLine(data) {
  var row = find('[data-job-row="' + data.id + '"] [data-last]'), log = find('[data-job="' + data.id + '"] .log');
  if (row) row.textContent = data.line;
  all("[data-live-title]").forEach(function (run) {  // only for the run that the line names
   if (data.line.indexOf(run.dataset.liveTitle) === 0)
    find("[data-live-line]", run).textContent = data.line.slice(run.dataset.liveTitle.length).trim();
  });
  if (log && data.number > +log.dataset.written) {
   var low = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
   log.dataset.written = data.number;
   log.appendChild(document.createTextNode(data.line + "\n"));
   if (low) log.scrollTop = log.scrollHeight;
  }
 }
 function showProgress(one) {  // of a process: for the runs that its line names, or all its runs
  var parts = all("[data-live-title]").filter(function (part) {
   return one.runs.indexOf(part.dataset.run || part.dataset.liveRun) >= 0;
  });
  var own = parts.filter(function (part) { return one.line.indexOf(part.dataset.liveTitle) === 0; });
  (own.length ? own : parts).forEach(function (part) {
   find("[data-live-line]", part).textContent = one.line.slice(own.length ? part.dataset.liveTitle.length : 0).trim();
  });
 }
 // A browser has six connections per host: only visible tabs subscribe to events.
 var source = null;
 function listen() {
  source = new EventSource("/events");
  source.addEventListener("runs", function (event) {
   var data = JSON.parse(event.data), run = find("[data-live-run]");
   if (!find("#list details.menu[open]")) body.dispatchEvent(new Event("runs-changed"));
   if (run && data.running.indexOf(run.dataset.liveRun) < 0) location.reload();
  });
  source.addEventListener("job", function (event) { showJob(JSON.parse(event.data)); });
  source.addEventListener("process", function (event) {
   var job = JSON.parse(event.data);
   showBusy(job);
   document.dispatchEvent(new CustomEvent("process-finished", { detail: job }));
  });
  source.addEventListener("progress", function (event) { JSON.parse(event.data).forEach(showProgress); });
  source.addEventListener("log", function (event) { showLine(JSON.parse(event.data)); });
  source.addEventListener("closed", showAway);
  source.addEventListener("error", function () { awayTimer = awayTimer || setTimeout(showAway, 3000); });
  source.addEventListener("open", function () {
   clearTimeout(awayTimer);
   awayTimer = 0;
   if (away && !away.hidden) location.reload();
  });
 }
 var away = find("[data-away]"), awayTimer = 0;
 function showAway() {
  if (!away || !away.hidden || !source) return;
  find("time", away).textContent = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  away.hidden = false;
 }
 if (away) find("[data-retry]", away).addEventListener("click", function () { location.reload(); });
 document.addEventListener("htmx:error", showAway);
 function hush() { if (source) source.close(); source = null; }
 if (window.EventSource && find("[data-toasts]") && body.dataset.page !== "login" && body.dataset.page !== "error") {
  listen();
  window.addEventListener("pagehide", hush);
  document.addEventListener("visibilitychange", function () {
   if (document.hidden) { hush(); return; }
   if (source) return;
   listen();  // and update what was missed
   body.dispatchEvent(new Event("runs-changed"));
   body.dispatchEvent(new Event("jobs-changed"));
   if (find("[data-job][data-state=running], [data-job][data-state=queued], [data-live-run]")) location.reload();
  });
 }

 var log = find(".log[data-written]");
 if (log) log.scrollTop = log.scrollHeight;
})();
