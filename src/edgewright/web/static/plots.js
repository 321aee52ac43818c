// Samples in uPlot, and the timeline of layers on a canvas. Without scripts, the page shows the server's charts.
(function () {
 "use strict";
 var style = function (name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); };
 function shown(us) {
  if (!isFinite(us)) return "–";
  var size = Math.abs(us), unit = size >= 1e6 ? ["s", 1e6] : size >= 1e3 ? ["ms", 1e3] : ["µs", 1];
  var value = us / unit[1];
  return (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2)) + " " + unit[0];
 }

 function plotSamples(place) {
  fetch(place.dataset.samples, { credentials: "same-origin" }).then(function (response) { return response.json(); }).then(function (answer) {
   if (answer.data.length < 2) return;
   var x = answer.data.map(function (_, position) { return position * answer.step; });
   var sorted = answer.data.filter(function (value) { return value !== null; }).sort(function (a, b) { return a - b; });
   var high = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))], low = sorted[0], wide = low > 0 && high / low > 8;
   var ends = [], sum = 0;
   answer.processes.slice(0, -1).forEach(function (count) { sum += count; ends.push(sum); });
   var plot;
   function draw() {
    if (plot) plot.destroy();
    place.textContent = "";
    var axis = { stroke: style("soft"), grid: { stroke: style("line"), width: 1 }, ticks: { stroke: style("line") }, font: "11px system-ui, sans-serif" };
    plot = new uPlot({
     width: Math.max(place.clientWidth, 300), height: 200, cursor: { drag: { x: true, y: false } },
     scales: { x: { time: false }, y: wide ? { distr: 3, range: function () { return [low * 0.95, high * 1.05]; } } : { range: function (u, min, max) { var room = (high - low) * 0.06 || 1; return [low - room, Math.min(max, high) + room]; } } },
     series: [{ label: "sample" }, { label: "time", stroke: style("cpu"), width: 1, points: { show: false }, value: function (u, value) { return value === null ? "–" : shown(value); } }],
     axes: [Object.assign({}, axis), Object.assign({ size: 64, values: function (u, values) { return values.map(function (value) { return value === null ? "" : shown(value); }); } }, axis)],
     hooks: { drawAxes: [function (u) {
      u.ctx.save(); u.ctx.strokeStyle = style("line"); u.ctx.setLineDash([3, 3]); u.ctx.beginPath();
      ends.forEach(function (end) { var at = Math.round(u.valToPos(end, "x", true)); if (at > u.bbox.left && at < u.bbox.left + u.bbox.width) { u.ctx.moveTo(at, u.bbox.top); u.ctx.lineTo(at, u.bbox.top + u.bbox.height); } });
      u.ctx.stroke(); u.ctx.restore();
     }] }
    }, [x, answer.data], place);
   }
   draw();
   document.addEventListener("theme", draw);
   window.addEventListener("resize", function () { if (plot) plot.setSize({ width: Math.max(place.clientWidth, 300), height: 200 }); });
  }).catch(function () { /* keep the server's chart */ });
 }

 function showTimeline(place) {
  fetch(place.dataset.timeline, { credentials: "same-origin" }).then(function (response) { return response.json(); }).then(function (answer) {
   var spans = answer.spans, end = 0, lanes = [];
   spans.forEach(function (span) { end = Math.max(end, span.start_us + span.length_us); });
   ["CPU", "GPU", "NPU", "UNKNOWN"].forEach(function (unit) { if (spans.some(function (span) { return span.lane === unit; })) lanes.push(unit); });
   if (!end) return;
   var canvas = document.createElement("canvas"), under = document.createElement("p");
   canvas.className = "timeline"; canvas.tabIndex = 0; canvas.setAttribute("role", "img");
   canvas.setAttribute("aria-label", "Timeline of " + spans.length + " layers; the table below has the same numbers. Keys: plus and minus zoom, arrows move, zero shows all.");
   under.className = "under-canvas"; under.setAttribute("aria-live", "off");
   place.textContent = ""; place.appendChild(canvas); place.appendChild(under);
   var left = 56, lane = 34, gap = 8, foot = 22, height = lanes.length * (lane + gap) + foot;
   var from = 0, to = end, hover = null, picked = -1, width = 0;
   var x = function (us) { return left + (us - from) / (to - from) * (width - left - 8); };
   function hold() {
    var span = Math.min(Math.max(to - from, end / 20000), end);
    from = Math.max(0, Math.min(from, end - span)); to = from + span;
   }
   function draw() {
    width = place.clientWidth;
    var scale = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
    canvas.width = width * scale; canvas.height = height * scale; canvas.style.height = height + "px";
    pen.setTransform(scale, 0, 0, scale, 0, 0); pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle";
    lanes.forEach(function (unit, row) {
     pen.fillStyle = style("fill"); pen.fillRect(left, row * (lane + gap), width - left - 8, lane);
     pen.fillStyle = style("soft"); pen.textAlign = "right"; pen.fillText(unit, left - 8, row * (lane + gap) + lane / 2);
    });
    pen.save(); pen.beginPath(); pen.rect(left, 0, width - left - 8, height - foot); pen.clip(); pen.textAlign = "left";
    spans.forEach(function (span) {
     var begin = x(span.start_us), size = x(span.start_us + span.length_us) - begin, top = lanes.indexOf(span.lane) * (lane + gap);
     if (begin > width || begin + size < left) return;
     pen.globalAlpha = span === hover ? 0.55 : span.position % 2 ? 0.72 : 1;
     pen.fillStyle = style(span.lane.toLowerCase()); pen.fillRect(begin, top, Math.max(size - 0.5, 0.5), lane);
     pen.globalAlpha = 1;
     if (span.position === picked) { pen.strokeStyle = style("ink"); pen.lineWidth = 2; pen.strokeRect(begin + 1, top + 1, Math.max(size - 2, 1), lane - 2); pen.lineWidth = 1; }
     if (size > 44) {
      pen.save(); pen.beginPath(); pen.rect(begin, top, size - 4, lane); pen.clip();
      pen.fillStyle = style("card"); pen.fillText(span.op, Math.max(begin, left) + 5, top + lane / 2); pen.restore();
     }
    });
    (answer.gaps || []).forEach(function (pause) {
     var begin = x(pause[0]), size = x(pause[0] + pause[1]) - begin;
     pen.strokeStyle = style("soft"); pen.save(); pen.beginPath(); pen.rect(begin, 0, size, height - foot - gap); pen.clip(); pen.beginPath();
     for (var stripe = Math.max(begin, left) - height; stripe < Math.min(begin + size, width); stripe += 9) { pen.moveTo(stripe, height); pen.lineTo(stripe + height, 0); }
     pen.globalAlpha = 0.5; pen.stroke(); pen.restore();
    });
    pen.restore();
    var step = Math.pow(10, Math.floor(Math.log10((to - from) / 6))), times = [1, 2, 5, 10].filter(function (one) { return one * step >= (to - from) / 8; })[0] || 10;
    pen.fillStyle = style("soft"); pen.strokeStyle = style("soft"); pen.textAlign = "center";
    for (var tick = Math.ceil(from / (step * times)) * step * times; tick <= to; tick += step * times) {
     pen.beginPath(); pen.moveTo(x(tick), height - foot); pen.lineTo(x(tick), height - foot + 4); pen.stroke(); pen.fillText(shown(tick), x(tick), height - 9);
    }
    under.textContent = hover ? hover.name.slice(0, 90) + " · " + hover.op.slice(0, 60) + " · " + shown(hover.length_us) + " from " + shown(hover.start_us)
     : shown(from) + " to " + shown(to) + (answer.measured ? "" : " · medians one after the other");
   }
   function zoom(factor, around) {
    var span = (to - from) * factor;
    if (span > end) { from = 0; to = end; } else { from = around - (around - from) * factor; to = from + span; }
    hold(); draw();
   }
   var at = function (event) { var box = canvas.getBoundingClientRect(); return from + (event.clientX - box.left - left) / (box.width - left - 8) * (to - from); };
   canvas.addEventListener("wheel", function (event) { if (!event.ctrlKey && document.activeElement !== canvas) return; event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8, at(event)); }, { passive: false });
   var drag = null;
   canvas.addEventListener("pointerdown", function (event) { canvas.focus(); drag = { x: event.clientX, from: from, span: to - from }; canvas.setPointerCapture(event.pointerId); });
   canvas.addEventListener("pointerup", function () { drag = null; });
   canvas.addEventListener("pointermove", function (event) {
    if (drag) { from = drag.from - (event.clientX - drag.x) / (width - left - 8) * drag.span; to = from + drag.span; hold(); draw(); return; }
    var box = canvas.getBoundingClientRect(), us = at(event), row = Math.floor((event.clientY - box.top) / (lane + gap));
    var found = spans.filter(function (span) { return lanes.indexOf(span.lane) === row && us >= span.start_us && us <= span.start_us + span.length_us; })[0] || null;
    if (found !== hover) { hover = found; draw(); }
   });
   canvas.addEventListener("click", function () { if (hover) location.hash = "layer-" + hover.position; });
   document.addEventListener("layer", function (event) { picked = +event.detail; draw(); });
   canvas.addEventListener("pointerleave", function () { if (hover) { hover = null; draw(); } });
   canvas.addEventListener("dblclick", function (event) { zoom(0.4, at(event)); });
   canvas.addEventListener("keydown", function (event) {
    var middle = (from + to) / 2, step = (to - from) / 6;
    if (event.key === "+" || event.key === "=") zoom(0.7, middle);
    else if (event.key === "-") zoom(1.4, middle);
    else if (event.key === "ArrowLeft") { from -= step; to -= step; hold(); draw(); }
    else if (event.key === "ArrowRight") { from += step; to += step; hold(); draw(); }
    else if (event.key === "0" || event.key === "Home") { from = 0; to = end; draw(); }
    else return;
    event.preventDefault();
   });
   draw();
   document.addEventListener("theme", draw);
   window.addEventListener("resize", draw);
   canvas.dataset.ready = "";
  }).catch(function () { /* keep the server's chart */ });
 }
 Array.prototype.forEach.call(document.querySelectorAll("[data-samples]"), plotSamples);
 Array.prototype.forEach.call(document.querySelectorAll("[data-timeline]"), showTimeline);
})();
