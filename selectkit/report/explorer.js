"use strict";
(() => {
  const root = document.getElementById("explorer");
  const table = JSON.parse(document.getElementById("explorer-data").textContent);
  const input = (name) => document.getElementById("explorer-" + name);
  const [slider, volume] = [input("threshold"), input("volume")];
  const prices = [...root.querySelectorAll("[data-cost]")];
  const last = table.accepted.length - 1;

  const percent = (share) => {
    if (!Number.isFinite(share)) return "–";
    const hundred = 100 * share;
    if (Math.abs(hundred - Math.round(hundred)) < 1e-9) return Math.round(hundred) + "\u00a0%";
    if (hundred < 0.005) return "< 0.01\u00a0%";
    if (hundred >= 99.95) return "> 99.9\u00a0%";
    return hundred.toFixed(hundred < 9.95 ? 2 : 1) + "\u00a0%";
  };
  const amount = (x) => {
    if (!Number.isFinite(x)) return "–";
    if (x > 0 && x < 1) return x.toLocaleString("en-US", { maximumSignificantDigits: 2 });
    const digits = x < 10 ? 2 : x < 100 ? 1 : 0;
    return x.toLocaleString("en-US", { maximumFractionDigits: digits });
  };
  const atLeastZero = (field) => Math.max(0, Number(field.value) || 0);
  // what a price is paid for: its name among the readouts, and in words
  const paid = {
    miss: ["misses", "missed"],
    false_alarm: ["alarms", "false alarms"],
    error: ["errors", "wrong"],
    defer: ["deferred", "deferred"],
  };

  const measured = (i) => {
    const { n } = table;
    const [accepted, wrong] = [table.accepted[i], table.wrong[i]];
    const perDay = atLeastZero(volume) / n;
    const at = {
      coverage: accepted / n,
      error: wrong / accepted,
      deferred: (n - accepted) * perDay,
      errors: wrong * perDay,
    };
    if (table.hasPositive) {
      at.fnr = table.missed[i] / table.positives[i];
      at.miss = table.missed[i] / table.nPositive;
    }
    if (table.alarms) {
      at.misses = table.missed[i] * perDay;
      at.alarms = table.alarms[i] * perDay;
    }
    at.cost = 0;
    for (const field of prices) at.cost += atLeastZero(field) * at[paid[field.dataset.cost][0]];
    return at;
  };
  const notes = (i, at) => {
    const found = {
      coverage: `${table.accepted[i].toLocaleString("en-US")} of ${table.n.toLocaleString("en-US")}`,
      error: `${table.wrong[i].toLocaleString("en-US")} of ${table.accepted[i].toLocaleString("en-US")}`,
    };
    if (table.low && table.accepted[i]) {
      const [low, high] = [percent(table.low[i] / 1e4), percent(table.high[i] / 1e4)];
      found.error += `; 95 % interval ${low.replace("\u00a0%", "")} to ${high}`;
    }
    if (table.hasPositive) {
      found.fnr = `${table.missed[i]} of ${table.positives[i]}`;
      found.miss = `${table.missed[i]} of ${table.nPositive}`;
    }
    found.cost = prices.map((field) => {
      const [of, words] = paid[field.dataset.cost];
      return `${amount(atLeastZero(field))} × ${amount(at[of])} ${words}`;
    }).join(" + ");
    return found;
  };
  const cheapest = () => {
    let best = 0;
    for (let i = 1; i <= last; i++) if (measured(i).cost < measured(best).cost) best = i;
    return best;
  };

  const show = () => {
    const i = Number(slider.value);
    const at = measured(i);
    const note = notes(i, at);
    for (const place of root.querySelectorAll("[data-of]")) {
      const { of } = place.dataset;
      const rate = ["coverage", "error", "fnr", "miss"].includes(of);
      place.value = String(at[of]);
      place.textContent = rate ? percent(at[of]) : amount(at[of]);
    }
    for (const place of root.querySelectorAll("[data-note]")) {
      place.textContent = note[place.dataset.note] ?? "";
    }
    const widths = [at.coverage - table.wrong[i] / table.n, table.wrong[i] / table.n, 1 - at.coverage];
    root.querySelectorAll(".shares i").forEach((bar, k) => {
      bar.style.width = 100 * widths[k] + "%";
    });
    const asked = prices.map((field) => `${field.dataset.cost}=${atLeastZero(field)}`).join(",");
    const policy = table.alarms ? " --policy two_sided" : "";
    root.querySelector("[data-command]").textContent =
      `selectkit calibrate RUN${policy} --cost ${asked}`;
    const t = table.threshold[i];
    const name = t === null ? "none is high enough" : String(Number(t.toPrecision(6)));
    root.querySelector("output").textContent = name + (i === table.policy ? " (this policy)" : "");
    slider.setAttribute(
      "aria-valuetext",
      `threshold ${name}: ${percent(at.coverage)} decided, ${percent(at.error)} of them wrong`,
    );
    slider.dataset.threshold = String(t);
  };
  const go = (i) => {
    slider.value = String(i);
    show();
  };

  slider.max = String(last);
  for (const field of [slider, volume, ...prices]) field.addEventListener("input", show);
  input("policy").hidden = table.policy < 0;
  input("policy").addEventListener("click", () => go(table.policy));
  input("cheapest").addEventListener("click", () => go(cheapest()));
  root.querySelector(".explorer").hidden = false;
  go(table.policy < 0 ? last : table.policy);
})();
