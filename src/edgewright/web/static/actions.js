// Palette, copy buttons, section bar, links to layers, and the drawer of a new job. Every page works without scripts.
(function () {
 "use strict";
 var find = function (selector, from) { return (from || document).querySelector(selector); };
 var all = function (selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); };
 var make = function (tag, css, text) {
  var made = document.createElement(tag);
  if (css) made.className = css;
  if (text !== undefined) made.textContent = text;
  return made;
 };

 // Palette: finds pages, models, and runs by any piece of an id
 var palette = find("#palette"), finder = find("#finder");
 if (palette && finder) {
  var input = find("input", palette), list = find("ul", palette), at = 0, asked = 0, timer = 0;
  if (/Mac|iPhone|iPad/.test(navigator.platform)) find("[data-palette-key]").textContent = "⌘ K";
  var mark = function () {
   all("li", list).forEach(function (item, place) {
    item.setAttribute("aria-selected", place === at ? "true" : "false");
    if (place === at) { input.setAttribute("aria-activedescendant", item.id); item.scrollIntoView({ block: "nearest" }); }
   });
  };
  var show = function (found) {
   list.textContent = "";
   at = 0;
   found.forEach(function (one, place) {
    var item = make("li"), link = make("a");
    item.id = "found-" + place;
    item.setAttribute("role", "option");
    link.href = one.address;
    link.tabIndex = -1;
    link.appendChild(make("span", "", one.title));
    link.appendChild(make("small", "", one.kind + (one.detail ? " · " + one.detail : "")));
    item.appendChild(link);
    list.appendChild(item);
   });
   if (!found.length) list.appendChild(make("li", "none", "Nothing matches."));
   mark();
  };
  var ask = function () {
   var number = ++asked;
   fetch("/find.json?text=" + encodeURIComponent(input.value), { credentials: "same-origin" })
    .then(function (answer) { return answer.json(); })
    .then(function (answer) { if (number === asked) show(answer.found); })
    .catch(function () { if (number === asked) show([]); });
  };
  var openPalette = function (text) {
   input.value = text || "";
   palette.showModal();
   ask();
  };
  input.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(ask, 80); });
  palette.addEventListener("keydown", function (event) {
   var items = all("li a", list);
   if (event.key === "ArrowDown") at = Math.min(at + 1, items.length - 1);
   else if (event.key === "ArrowUp") at = Math.max(at - 1, 0);
   else if (event.key === "Enter" && items[at]) items[at].click();
   else return;
   event.preventDefault();
   mark();
  });
  palette.addEventListener("click", function (event) { if (event.target === palette) palette.close(); });
  finder.addEventListener("focus", function () { finder.blur(); openPalette(finder.value); });
  document.addEventListener("keydown", function (event) {
   if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !palette.open) { event.preventDefault(); openPalette(); }
  });
 }

 // Copy buttons beside commands and ids
 var COPY_ICON = "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3";
 function draw(button, path) {
  var space = "http://www.w3.org/2000/svg", icon = document.createElementNS(space, "svg"), line = document.createElementNS(space, "path");
  icon.setAttribute("viewBox", "0 0 16 16");
  icon.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  icon.appendChild(line);
  button.replaceChildren(icon);
 }
 function addCopyButtons() {
  if (!navigator.clipboard) return;
  all("code.id, pre > code, code[data-copy]").forEach(function (code) {
   if (code.dataset.copied !== undefined) return;
   code.dataset.copied = "";
   var button = make("button", "copy");
   button.type = "button";
   button.title = "Copy";
   button.setAttribute("aria-label", "Copy " + code.textContent.trim().slice(0, 40));
   button.addEventListener("click", function () {
    navigator.clipboard.writeText(code.dataset.copy || code.title || code.textContent.replace(/ +#.*$/gm, "").trim());
    draw(button, "M3 8.5 6.5 12 13 4.5");
    setTimeout(function () { draw(button, COPY_ICON); }, 1500);
   });
   draw(button, COPY_ICON);
   code.parentNode.insertBefore(button, code.parentNode.tagName === "PRE" ? code : code.nextSibling);
  });
 }

 // Section bar: marks the section that is being read
 var bar = find("[data-sections]");
 if (bar) {
  var targets = all("a", bar).map(function (link) { return find(link.hash); });
  var waits = false;
  var markSection = function () {
   waits = false;
   var current = 0;
   targets.forEach(function (target, place) { if (target && place && target.getBoundingClientRect().top < 160) current = place; });
   all("a", bar).forEach(function (link, place) {
    if (place === current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
   });
  };
  document.addEventListener("scroll", function () { if (!waits) { waits = true; requestAnimationFrame(markSection); } }, { passive: true });
  markSection();
 }

 // Layers: a row, a span of the timeline and a node of the graph are one selection, kept in the address
 function select(position, scrolls) {
  all("[data-layer]").forEach(function (one) {
   var lit = one.dataset.layer.split(" ").indexOf(position) >= 0;
   one.classList.toggle("lit", lit);
   if (lit && scrolls && one.tagName === "TR") one.scrollIntoView({ block: "center" });
  });
  document.dispatchEvent(new CustomEvent("layer", { detail: position }));
 }
 function selectFromAddress() {
  var found = /^#layer[=-](\d+)$/.exec(location.hash);
  if (found) select(found[1], true);
 }
 document.addEventListener("click", function (event) {
  var one = event.target.closest && event.target.closest("[data-layer]");
  if (!one || event.target.closest("a[href], button, input, select") || String(getSelection())) return;
  var position = one.dataset.layer.split(" ")[0];
  history.replaceState(null, "", "#layer-" + position);
  select(position, one.tagName !== "TR");
 });
 window.addEventListener("hashchange", selectFromAddress);
 document.addEventListener("arrived", function () { addCopyButtons(); selectFromAddress(); });
 document.addEventListener("keydown", function (event) {
  if (event.key === "Escape") all("details.menu[open]").forEach(function (menu) { menu.open = false; });
 });

 // New: a drawer with the form, the preview of the command, upload by choosing or dropping a file
 var drawer = find("#drawer"), previews = 0, previewTimer = 0;
 function formOf(box) { return find("[data-new-form]", box || document); }
 function fields(form, changes) {
  var query = form ? new URLSearchParams(new FormData(form)) : new URLSearchParams();
  query.delete("csrf");
  Object.keys(changes || {}).forEach(function (name) { query.set(name, changes[name]); });
  return query;
 }
 function load(query, box) {
  query.set("part", "form");
  return fetch("/work?" + query, { credentials: "same-origin" }).then(function (answer) { return answer.text(); }).then(function (text) {
   var target = box || find("[data-new]");
   if (box) box.innerHTML = text; else target.outerHTML = text;
   arm();
  });
 }
 function reload(changes) {
  var form = formOf(drawer && drawer.open ? drawer : document);
  return load(fields(form, changes), drawer && drawer.open ? find("[data-drawer-content]", drawer) : null);
 }
 function preview(form) {
  var number = ++previews;
  fetch("/work/preview?" + fields(form), { credentials: "same-origin" }).then(function (answer) { return answer.json(); }).then(function (answer) {
   if (number !== previews || !form.isConnected) return;
   find("[data-command]", form).textContent = answer.command;
   find("[data-estimate]", form).textContent = answer.estimate || "known once the form is complete";
   all("[data-error]", form).forEach(function (place) {
    var text = place.dataset.error === "model" && !form.dataset.touched ? "" : answer.errors[place.dataset.error] || "";
    var input = form.elements[place.dataset.error];
    place.textContent = text;
    if (input && input.setAttribute) { if (text) input.setAttribute("aria-invalid", "true"); else input.removeAttribute("aria-invalid"); }
   });
  }).catch(function () {  });
 }
 function send(file) {
  var box = find("[data-new]", drawer && drawer.open ? drawer : document), status = find("[data-upload-status]", box), meter = find("[data-upload-progress]", box);
  var request = new XMLHttpRequest();
  status.textContent = "";
  meter.hidden = false;
  request.open("POST", "/models/upload?name=" + encodeURIComponent(file.name));
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.setRequestHeader("X-CSRF-Token", find("meta[name=csrf]").content);
  request.upload.addEventListener("progress", function (event) { if (event.lengthComputable) { meter.max = event.total; meter.value = event.loaded; } });
  request.addEventListener("loadend", function () {
   var answer = null;
   meter.hidden = true;
   try { answer = JSON.parse(request.responseText); } catch (error) {  }
   if (!answer) status.textContent = "The upload failed. The file may be too large.";
   else if (answer.error) status.textContent = answer.error.what + ": " + answer.error.why;
   else reload({ model: answer.upload });
  });
  request.send(file);
 }
 function arm() {  // after a form arrived
  all("[data-new]").forEach(function (box) {
   var form = formOf(box), upload = find("[data-upload]", box);
   if (!form || form.dataset.armed !== undefined) return;
   form.dataset.armed = "";
   if (upload) {
    upload.hidden = false;
    find("input[type=file]", upload).addEventListener("change", function (event) { if (event.target.files[0]) send(event.target.files[0]); });
   }
   form.addEventListener("input", function (event) {
    form.dataset.touched = "";
    if (event.target.name === "model" || event.target.type === "file") return;
    clearTimeout(previewTimer);
    previewTimer = setTimeout(function () { preview(form); }, 150);
   });
   form.addEventListener("change", function (event) { if (event.target.name === "model") reload({}); });
   addCopyButtons();
  });
 }
 function openDrawer(address) {
  var query = new URLSearchParams((address || "").split("?")[1] || "");
  return load(query, find("[data-drawer-content]", drawer)).then(function () { if (!drawer.open) drawer.showModal(); });
 }
 document.addEventListener("click", function (event) {
  var link = event.target.closest && event.target.closest("[data-drawer], [data-tab]");
  if (event.target === drawer) { drawer.close(); return; }
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || (link.dataset.drawer !== undefined && formOf() && !drawer.open)) return;
  event.preventDefault();
  if (link.dataset.tab) reload({ kind: link.dataset.tab, filled: "" });
  else openDrawer(link.getAttribute("href")).catch(function () { location.href = link.href; });
 });
 if (drawer) {
  document.addEventListener("dragover", function (event) {
   if (event.dataTransfer && Array.prototype.indexOf.call(event.dataTransfer.types, "Files") >= 0) { event.preventDefault(); document.body.classList.add("drop-target"); }
  });
  document.addEventListener("dragleave", function (event) { if (!event.relatedTarget) document.body.classList.remove("drop-target"); });
  document.addEventListener("drop", function (event) {
   var file = event.dataTransfer && event.dataTransfer.files[0];
   document.body.classList.remove("drop-target");
   if (!file) return;
   event.preventDefault();
   if (formOf()) send(file); else openDrawer("/work").then(function () { send(file); });
  });
 }
 arm();

 // A running job: its strips are drawn anew after each finished process
 var strips = find("[data-strips]"), drawing = false, drawn = 0;
 document.addEventListener("process-finished", function (event) {
  if (!strips || strips.dataset.strips !== "/work/" + event.detail.id || drawing || event.detail.finished === drawn) return;
  drawing = true;
  setTimeout(function () {
   fetch(strips.dataset.strips, { credentials: "same-origin", headers: { "HX-Request": "true" } }).then(function (answer) { return answer.text(); }).then(function (text) {
    strips.innerHTML = text;
    drawn = +find("#strips", strips).dataset.finished;
    drawing = false;
   }).catch(function () { drawing = false; });
  }, 250);
 });
 addCopyButtons();
 selectFromAddress();
})();
