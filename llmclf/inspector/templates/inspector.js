"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  if (!byId("payload")) return;
  const { dtype, shown, context, texts, biased, always, chain } = JSON.parse(byId("payload").textContent);

  const base = (() => {
    const bytes = Uint8Array.from(atob(byId("logits").textContent), (character) => character.charCodeAt(0));
    // Little-endian on every machine that runs a browser today.
    return Float64Array.from(dtype === "float32" ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer));
  })();
  const n = base.length;

  // --- the arithmetic of llmclf.logits, in the order of its chain; cut tokens are -Infinity ---

  const largest = (x) => x.reduce((best, value) => (value > best ? value : best), -Infinity);

  const logSoftmax = (x) => {
    const top = largest(x);
    let total = 0;
    for (const value of x) total += Math.exp(value - top);
    const logTotal = Math.log(total);
    return x.map((value) => value - top - logTotal);
  };

  const keepOnly = (x, isKept) => x.map((value, i) => (isKept(value, i) ? value : -Infinity));

  const temper = (x, t) => {
    if (t === 1) return x;
    if (t === 0) {
      const best = x.indexOf(largest(x)); // of equal ones the lowest id
      return keepOnly(x, (_, i) => i === best);
    }
    if (t === Infinity) return x.map((value) => (value === -Infinity ? value : 0));
    const scaled = x.map((value) => value / t);
    if (!scaled.some((value, i) => Math.abs(value) === Infinity && Math.abs(x[i]) !== Infinity)) return scaled;
    const top = largest(x);
    return x.map((value) => (value - top) / t);
  };

  const falling = (x) => Float64Array.from(x).sort().reverse();

  const topK = (x, k) => {
    if (k >= n) return x;
    const border = falling(x)[k - 1];
    return keepOnly(x, (value) => value >= border); // ties at the border are all kept
  };

  const topP = (x, p) => {
    if (p >= 1) return x;
    const order = falling(x);
    const logProbabilities = logSoftmax(order);
    let before = 0;
    let size = 0;
    while (size < n && before < p) before += Math.exp(logProbabilities[size++]);
    const border = order[size - 1];
    let left = size - x.reduce((count, value) => count + (value > border), 0);
    // Of equal ones at the border, those with the lowest ids.
    return keepOnly(x, (value) => value > border || (value === border && left-- > 0));
  };

  const minP = (x, p) => {
    if (p === 0) return x;
    const top = largest(x);
    return keepOnly(x, (value) => value - top >= Math.log(p));
  };

  const processed = (s) => {
    let x = base.slice();
    for (const [token, offset] of s.bias) x[token] += offset;
    for (const [token, count] of context) {
      if (token >= n) continue;
      x[token] = x[token] < 0 ? x[token] * s.repetition : x[token] / s.repetition;
      x[token] -= s.presence;
      x[token] -= count * s.frequency;
    }
    return minP(topP(topK(temper(x, s.temperature), s.topK), s.topP), s.minP);
  };

  // --- which tokens are listed, and how ---

  const before = logSoftmax(base);
  const ranks = new Map();
  const rank = (token) => {
    if (!ranks.has(token)) {
      let above = 1;
      for (let i = 0; i < n; i++) above += base[i] > base[token] || (base[i] === base[token] && i < token);
      ranks.set(token, above);
    }
    return ranks.get(token);
  };

  /** The first tokens in the order of falling values, equal ones in the order before the chain. */
  const first = (x, count, among) => {
    const inOrder = (a, b) => x[b] - x[a] || base[b] - base[a] || a - b;
    const values = Float64Array.from(among, (i) => x[i]).sort().reverse();
    const border = values[Math.min(count, values.length) - 1];
    return among.filter((i) => x[i] >= border).sort(inOrder).slice(0, count);
  };

  const listed = (after, settings) => {
    const every = Array.from(after.keys());
    const kept = every.filter((i) => after[i] > -Infinity);
    const found = first(after, shown, kept);
    if (found.length < shown && kept.length < n) {
      found.push(...first(base, shown - found.length, every.filter((i) => after[i] === -Infinity)));
    }
    const extra = new Set([...always, ...[...settings.bias].filter(([, offset]) => offset !== 0).map(([token]) => token)]);
    found.forEach((token) => extra.delete(token));
    const inOrder = (a, b) => (after[a] === after[b] ? base[b] - base[a] || a - b : after[b] - after[a]);
    return [...found, ...[...extra].sort(inOrder)];
  };

  const element = (name, text, attributes = {}) => {
    const made = name === "svg" || name === "rect" ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const textOf = (token) => (texts[token] ? texts[token][0] : `#${token}`);
  const inNats = (value) => (value === -Infinity ? "−∞" : value.toFixed(4));

  const bars = (own, then) => {
    const chart = element("svg", null, { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    chart.append(element("rect", null, { class: "bar-before", x: 0, y: 0, width: 100 * own, height: 10 }));
    chart.append(element("rect", null, { class: "bar-after", x: 0, y: 2.5, width: 100 * then, height: 5 }));
    return chart;
  };

  const row = (token, logprob) => {
    const kept = logprob > -Infinity;
    const own = Math.exp(before[token]);
    const then = Math.exp(logprob);
    const made = element("tr", null, { "data-id": token, "data-kept": kept, "data-probability": then, "data-logprob": logprob });
    const named = element("td", null);
    named.append(element("code", textOf(token), { class: "token" }));
    for (const word of texts[token] ? texts[token][1] : []) named.append(" ", element("span", word, { class: "label" }));
    const chart = element("td", null, { class: "chart" });
    chart.append(bars(own, then));
    const numbers = [token, inNats(base[token]), inNats(before[token]), own.toFixed(4), kept ? then.toFixed(4) : "cut"];
    made.append(element("td", rank(token), { class: "number" }), named, ...numbers.map((text) => element("td", text, { class: "number" })), chart);
    return made;
  };

  // --- knobs: a slider and a number each, the number being what counts ---

  const offsets = new Map((chain.logit_bias || []).map(([token, offset]) => [token, offset]));
  const given = (name, otherwise) => (name in chain ? (chain[name] === "inf" ? Infinity : chain[name]) : otherwise);
  const knobs = {
    temperature: { id: "temperature", given: given("temperature", 1), off: 1, accepts: (v) => v >= 0 },
    topK: { id: "top-k", given: Math.min(n, given("top_k", n)), off: n, accepts: (v) => Number.isInteger(v) && v >= 1 },
    topP: { id: "top-p", given: given("top_p", 1), off: 1, accepts: (v) => v > 0 && v <= 1 },
    minP: { id: "min-p", given: given("min_p", 0), off: 0, accepts: (v) => v >= 0 && v <= 1 },
    repetition: { id: "repetition", given: given("repetition_penalty", 1), off: 1, accepts: (v) => v > 0 && v < Infinity },
  };
  const biases = new Map();

  // The slider of top-k runs over the logarithm: what matters lies among the first few hundred of 50,000.
  const toSlider = (id, value) => (id === "top-k" ? Math.round((1000 * Math.log(value)) / Math.log(n)) : value);
  const fromSlider = (id, value) => (id === "top-k" ? Math.round(Math.exp((value / 1000) * Math.log(n))) : value);

  let isWaiting = false;
  const show = () => {
    isWaiting = false;
    const settings = { bias: new Map(), presence: given("presence_penalty", 0), frequency: given("frequency_penalty", 0) };
    for (const [name, knob] of Object.entries(knobs)) settings[name] = knob.value;
    for (const [token, knob] of biases) settings.bias.set(token, knob.value);
    const after = logSoftmax(processed(settings));
    const tokens = listed(after, settings);
    byId("tokens").tBodies[0].replaceChildren(...tokens.map((token) => row(token, after[token])));
    const entropy = (logs) => logs.reduce((sum, value) => (value === -Infinity ? sum : sum - value * Math.exp(value)), 0);
    const kept = after.reduce((count, value) => count + (value > -Infinity), 0);
    const facts = byId("facts");
    facts.textContent = `${kept} of ${n} tokens kept; entropy ${entropy(before).toFixed(4)} nats before, ${entropy(after).toFixed(4)} after.`;
    facts.setAttribute("data-kept", kept);
    facts.setAttribute("data-entropy", entropy(after));
    const options = tokens.filter((token) => !biases.has(token)).map((token) => element("option", textOf(token), { value: token }));
    byId("more").replaceChildren(element("option", "choose", { value: "" }), ...options);
  };
  const refresh = () => {
    if (!isWaiting) requestAnimationFrame(show);
    isWaiting = true;
  };

  const bind = (knob) => {
    const slider = byId(knob.id);
    const exact = byId(`${knob.id}-number`);
    knob.set = (value) => {
      knob.value = value;
      slider.value = toSlider(knob.id, value);
      exact.value = value === Infinity ? "" : value;
      exact.placeholder = value === Infinity ? "inf" : "";
      exact.setCustomValidity("");
      refresh();
    };
    slider.addEventListener("input", () => knob.set(fromSlider(knob.id, Number(slider.value))));
    exact.addEventListener("input", () => {
      const value = Number(exact.value);
      const isGood = exact.value !== "" && knob.accepts(value);
      exact.setCustomValidity(isGood ? "" : "not a possible value");
      if (!isGood) return;
      knob.value = value;
      slider.value = toSlider(knob.id, value);
      refresh();
    });
    knob.set(knob.given);
  };

  const addBias = (token) => {
    const id = `bias-${token}`;
    const box = element("div", null, { class: "knob" });
    const label = element("label", "Bias ", { for: id });
    label.append(element("code", textOf(token), { class: "token" }), " ", element("small", `id ${token}, nats`));
    box.append(label, element("input", null, { type: "range", id, min: -10, max: 10, step: 0.05 }));
    box.append(element("input", null, { type: "number", id: `${id}-number`, step: "any", "aria-label": `Bias of token ${token}, exactly` }));
    byId("biases").append(box);
    const knob = { id, given: offsets.get(token) || 0, off: 0, accepts: Number.isFinite };
    biases.set(token, knob);
    bind(knob);
  };

  byId("top-k").max = 1000;
  byId("top-k").min = 0;
  Object.values(knobs).forEach(bind);
  biased.forEach(addBias);
  byId("more").addEventListener("change", () => byId("more").value && addBias(Number(byId("more").value)));
  const all = () => [...Object.values(knobs), ...biases.values()];
  byId("reset").addEventListener("click", () => all().forEach((knob) => knob.set(knob.given)));
  byId("off").addEventListener("click", () => all().forEach((knob) => knob.set(knob.off)));
  byId("knobs").addEventListener("submit", (event) => event.preventDefault());
  byId("knobs").hidden = false;
  show();
})();
