"use strict";
// The theme is chosen before the page is painted: #dark or #light in the address,
// then the reader's last choice, then the system's.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
function remembered() { try { return localStorage.getItem("sagelocal-theme"); } catch { return null; } }
function themed() {
  const asked = location.hash.slice(1);
  return ["dark", "light"].includes(asked) ? asked : remembered() || (system.matches ? "dark" : "light");
}
root.dataset.theme = themed();

function draw(charts) {
  const css = name => getComputedStyle(root).getPropertyValue(name).trim();
  const color = i => css("--s" + i % 6);
  const dashes = [[], [9, 4], [2, 3], [12, 3, 2, 3], [5, 5], [1, 4]]; // told apart without colours too
  const alpha = (hex, a) => hex + Math.round(a * 255).toString(16).padStart(2, "0");
  const three = v => v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
  const short = v => String(+v.toPrecision(3));
  const time = (v, f = short) => v == null ? "–" : v === 0 ? "0" : v < 1e-3 ? f(v * 1e6) + " µs" : v < 1 ? f(v * 1e3) + " ms" : f(v) + " s";
  const percentile = nines => {
    const p = 100 * (1 - 10 ** -nines);
    return "P" + p.toFixed(Math.max(0, Math.ceil(nines - 1.999))).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  };
  const sync = uPlot.sync("time");
  let drawn = [];

  const axis = (values, more) => Object.assign({
    stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false },
    font: "12px " + getComputedStyle(document.body).fontFamily, values: (_, at) => at.map(v => v == null ? "" : values(v)),
  }, more);

  const across = (values, more) => axis(values, Object.assign({ size: 30, gap: 6 }, more));

  function plot(at, height, options, data) {
    if (!at || !data[0].length) return;
    const size = () => ({ width: Math.floor(at.clientWidth), height: at.clientWidth < 480 ? height - 30 : height });
    const u = new uPlot(Object.assign({ padding: [8, 12, 0, 0], cursor: { points: { size: 7 } } }, options, size()), data, at);
    const watch = new ResizeObserver(() => { if (Math.floor(at.clientWidth) !== u.width) u.setSize(size()); });
    watch.observe(at);
    drawn.push(() => { watch.disconnect(); u.destroy(); });
  }

  const lines = (format, more = () => ({})) => charts.strategies.map((label, i) => Object.assign({
    label, stroke: color(i), width: 2, dash: dashes[i % 6], points: { show: false }, value: (_, v) => v == null ? "–" : format(v),
  }, more(i)));
  const fromZero = (_, low, high) => [0, high > 0 ? high * 1.06 : 1];

  function all() {
    drawn.forEach(undo => undo());
    drawn = [];
    document.querySelectorAll(".key").forEach(k => { k.style.background = color(charts.strategies.indexOf(k.dataset.strategy)); });
    const spacious = { size: 62 };

    const p = charts.percentiles;
    plot(document.getElementById("percentiles"), 290, {
      scales: { x: { time: false }, y: { range: fromZero } },
      axes: [across(percentile, { splits: u => [Math.log10(2), 1, 2, 3, 4, 5, 6].filter(v => v <= u.scales.x.max) }), axis(time, spacious)],
      series: [{ label: "Percentile", value: (_, v) => v == null ? "–" : percentile(v) }, ...lines(v => time(v, three))],
    }, [p.x, ...p.y]);

    const d = charts.distribution;
    plot(document.getElementById("distribution"), 290, {
      scales: { x: { time: false, distr: 3, range: (_, low, high) => [low, high] }, y: { range: fromZero } },
      axes: [across(time, { space: 60, filter: (_, at) => at, grid: { show: false }, splits: u => logSplits(u.scales.x.min, u.scales.x.max) }), axis(v => short(v) + " %", { size: 50 })],
      series: [{ label: "Latency", value: (_, v) => v == null ? "–" : time(v, three) }, ...lines(v => v.toFixed(1) + " %", i => ({ fill: alpha(color(i), .12), paths: uPlot.paths.spline() }))],
    }, [d.x, ...d.y]);

    const t = charts.throughput;
    plot(document.getElementById("throughput"), 250, {
      scales: { x: { time: false }, y: { range: fromZero } },
      axes: [across(v => short(v) + " s"), axis(v => short(v) + "/s", spacious)],
      series: [{ label: "Time", value: (_, v) => v == null ? "–" : v.toFixed(1) + " s" }, ...lines(v => three(v) + "/s")],
    }, [t.x, ...t.y]);

    const most = Math.max(1, ...charts.in_flight.flatMap(f => f.y.flatMap(y => y))) * 1.06;
    document.querySelectorAll("[data-in-flight]").forEach(at => {
      const f = charts.in_flight[at.dataset.inFlight];
      const ours = color(charts.strategies.indexOf(f.strategy));
      const quantiles = f.instances > f.y.length;
      plot(at, 190, {
        legend: { show: false },
        cursor: { sync: { key: sync.key }, points: { show: false } },
        scales: { x: { time: false }, y: { range: [0, most] } },
        axes: [across(v => short(v) + " s"), axis(short, { size: 36 })],
        bands: quantiles ? [{ series: [1, 5], fill: alpha(ours, .14) }, { series: [2, 4], fill: alpha(ours, .28) }] : [],
        series: [{}, ...f.y.map((_, i) => ({
          label: f.labels[i], points: { show: false }, width: quantiles && i !== 2 ? .5 : 1.4, stroke: alpha(ours, quantiles ? 1 : f.y.length > 8 ? .5 : .75),
        }))],
      }, [f.x, ...f.y]);
    });
  }

  // 1, 2 and 5 times powers of ten, as many as there is room for.
  function logSplits(low, high) {
    const found = [];
    const steps = Math.log10(high / low) > 2 ? [1] : Math.log10(high / low) > .9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
      for (const s of steps) if (s * 10 ** e >= low && s * 10 ** e <= high) found.push(s * 10 ** e);
    return found;
  }

  function switchTo(theme) { root.dataset.theme = theme; all(); }
  document.getElementById("theme").addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("sagelocal-theme", theme); } catch { /* a file:// page may have no storage */ }
    switchTo(theme);
  });
  system.addEventListener("change", () => switchTo(themed()));
  all();
}
