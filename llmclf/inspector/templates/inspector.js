"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  if (!byId("payload")) return;
  const { shown, most, context, texts, biased, always, chain } = JSON.parse(byId("payload").textContent);

  const numbers = (id) => {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
    // Little-endian on every machine that runs a browser today.
    return Float64Array.from(byId(id).dataset.numbers === "float32" ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer));
  };
  const original = numbers("logits");
  const start = byId("start") ? numbers("start") : original;
  const n = original.length;

  // --- the arithmetic of llmclf.logits, in the order of its chain, on logits in falling order ---

  // Equal logits in the order of their ids. Of two infinities the difference is NaN, which is no difference either.
  const falling = (x) => (a, b) => x[b] - x[a] || a - b;
  const sorted = (x) => Uint32Array.from({ length: n }, (_, i) => i).sort(falling(x));
  const byRank = sorted(original);
  const rank = new Uint32Array(n);
  byRank.forEach((id, place) => (rank[id] = place + 1));
  const startOrder = start === original ? byRank : sorted(start);

  const logTotalOf = (y, end) => {
    let total = 0;
    for (let i = 0; i < end; i++) total += Math.exp(y[i] - y[0]);
    return Math.log(total);
  };
  const logTotal = logTotalOf(Float64Array.from(byRank, (id) => original[id]), n);
  const before = original.map((value) => value - original[byRank[0]] - logTotal);
  const entropyBefore = before.reduce((sum, value) => (value > -700 ? sum - value * Math.exp(value) : sum), 0);

  // Only what a bias or a penalty touches moves, so the rest keeps its order and nothing large is sorted again.
  const shifted = (set) => {
    const x = Float64Array.from(start);
    const touched = new Set();
    for (const [id, offset] of set.bias) {
      if (offset === 0) continue;
      x[id] += offset;
      touched.add(id);
    }
    if (set.repetition !== 1 || set.presence !== 0 || set.frequency !== 0) {
      for (const [id, count] of context) {
        x[id] = x[id] < 0 ? x[id] * set.repetition : x[id] / set.repetition;
        x[id] = x[id] - set.presence - count * set.frequency;
        touched.add(id);
      }
    }
    if (!touched.size) return { x, order: startOrder };
    const compare = falling(x);
    const moved = [...touched].sort(compare);
    const order = new Uint32Array(n);
    let place = 0, next = 0;
    for (const id of startOrder) {
      if (touched.has(id)) continue;
      while (next < moved.length && compare(moved[next], id) < 0) order[place++] = moved[next++];
      order[place++] = id;
    }
    while (next < moved.length) order[place++] = moved[next++];
    return { x, order };
  };

  // Logits over the temperature, in falling order; rounding may make some equal, and those stand by id again.
  const cooled = ({ x, order }, temperature) => {
    if (temperature === 0 || temperature === 1) return { order, y: Float64Array.from(order, (id) => x[id]) };
    const own = order.slice();
    const scale = (value) => (value === -Infinity ? value : temperature === Infinity ? 0 : value / temperature);
    const y = Float64Array.from(own, (id) => scale(x[id]));
    if (y.some((value, i) => !Number.isFinite(value) && x[own[i]] !== -Infinity)) {
      own.forEach((id, i) => (y[i] = scale(x[id] - x[own[0]])));
    }
    for (let from = 0, to = 1; to <= n; to++) {
      if (to < n && y[to] === y[from]) continue;
      if (to - from > 1) own.subarray(from, to).sort();
      from = to;
    }
    return { order: own, y };
  };

  // Every cut keeps a beginning of the falling order, so one number says what is left.
  const nKept = (y, { temperature, topK, topP, minP }) => {
    let end = n;
    while (end && y[end - 1] === -Infinity) end--;
    if (temperature === 0) end = Math.min(1, end);
    if (topK < end) {
      const border = y[topK - 1];
      let place = topK;
      while (place < end && y[place] === border) place++;
      end = place;
    }
    if (topP < 1) {
      const logTotal = logTotalOf(y, end);
      let place = 0;
      for (let mass = 0; place < end && mass < topP; place++) mass += Math.exp(y[place] - y[0] - logTotal);
      end = place;
    }
    if (minP > 0) while (end > 1 && y[end - 1] - y[0] < Math.log(minP)) end--;
    return end;
  };

  const distribution = (moved, set) => {
    const { order, y } = cooled(moved, set.temperature);
    const kept = nKept(y, set);
    const logTotal = logTotalOf(y, kept);
    const logprobs = new Float64Array(n).fill(-Infinity);
    let entropy = 0;
    for (let i = 0; i < kept; i++) {
      const logprob = (logprobs[order[i]] = y[i] - y[0] - logTotal);
      if (logprob > -700) entropy -= Math.exp(logprob) * logprob;
    }
    return { order, kept, logprobs, entropy };
  };

  // By the probability after the chain, equal ones and those cut by their rank before it.
  const listed = ({ order, kept, logprobs }, wanted) => {
    const compare = (a, b) => logprobs[b] - logprobs[a] || rank[a] - rank[b];
    let end = Math.min(shown, kept);
    while (end && end < kept && logprobs[order[end]] === logprobs[order[end - 1]]) end++;
    const ids = Array.from(order.subarray(0, end)).sort(compare).slice(0, shown);
    for (let i = 0; i < n && ids.length < shown; i++) {
      if (logprobs[byRank[i]] === -Infinity) ids.push(byRank[i]);
    }
    const there = new Set(ids);
    return [...ids, ...wanted.filter((id) => !there.has(id)).sort(compare)];
  };

  const element = (name, text, attributes = {}) => {
    const made = name === "svg" || name === "rect" ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const textOf = (token) => (texts[token] ? texts[token][0] : `#${token}`);
  const inNats = (value) => (value === -Infinity ? "−∞" : value.toFixed(4));
  const share = (p) => (p >= 1e-4 || p === 0 ? p.toFixed(4) : p.toExponential(1));

  const scaleOf = (largest) => {
    for (let power = -5; power < 0; power++) {
      for (const digit of [1, 2, 5]) if (digit * 10 ** power >= largest) return digit * 10 ** power;
    }
    return 1;
  };
  const bars = (own, then) => {
    const chart = element("svg", null, { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    chart.append(element("rect", null, { class: "bar-before", x: 0, y: 0, width: Math.min(100, 100 * own), height: 10 }));
    chart.append(element("rect", null, { class: "bar-after", x: 0, y: 2.5, width: Math.min(100, 100 * then), height: 5 }));
    return chart;
  };

  const row = (token, logprob, scale) => {
    const kept = logprob > -Infinity;
    const own = Math.exp(before[token]);
    const then = Math.exp(logprob);
    const made = element("tr", null, { "data-id": token, "data-kept": kept, "data-probability": then, "data-logprob": logprob });
    const named = element("td", null);
    named.append(element("code", textOf(token), { class: "token" }));
    const words = texts[token] ? texts[token][1] : [];
    for (const word of words.slice(0, most)) named.append(" ", element("span", word, { class: "label" }));
    if (words.length > most) named.append(" ", element("small", `and ${words.length - most} more`));
    const chart = element("td", null, { class: "chart" });
    chart.append(bars(own / scale, then / scale));
    const cells = [kept ? share(then) : "cut", share(own), inNats(before[token]), inNats(original[token]), token];
    made.append(element("td", rank[token], { class: "number" }), named, chart, ...cells.map((text) => element("td", text, { class: "number" })));
    return made;
  };

  // --- knobs: a slider and a number each, the number being what counts ---

  const offsets = new Map((chain.logit_bias || []).map(([token, offset]) => [token, Number(String(offset).replace("inf", "Infinity"))]));
  const given = (name, otherwise) => (name in chain ? (chain[name] === "inf" ? Infinity : chain[name]) : otherwise);
  const knobs = {
    temperature: { id: "temperature", given: given("temperature", 1), off: 1, accepts: (v) => v >= 0 },
    topK: { id: "top-k", given: Math.min(n, given("top_k", n)), off: n, accepts: (v) => Number.isInteger(v) && v >= 1 },
    topP: { id: "top-p", given: given("top_p", 1), off: 1, accepts: (v) => v > 0 && v <= 1 },
    minP: { id: "min-p", given: given("min_p", 0), off: 0, accepts: (v) => v >= 0 && v <= 1 },
    repetition: { id: "repetition", given: given("repetition_penalty", 1), off: 1, accepts: (v) => v >= 1e-9 && v <= 1e9 },
  };
  const biases = new Map();

  // The slider of top-k runs over the logarithm: what matters lies among the first few hundred of 50,000.
  const toSlider = (id, value) => (id === "top-k" ? Math.round((1000 * Math.log(value)) / Math.log(n)) : Math.max(-1e9, Math.min(1e9, value)));
  const fromSlider = (id, value) => (id === "top-k" ? Math.round(Math.exp((value / 1000) * Math.log(n))) : value);

  let isWaiting = false;
  let memory = { key: null };
  const show = () => {
    isWaiting = false;
    const settings = { bias: new Map(), presence: given("presence_penalty", 0), frequency: given("frequency_penalty", 0) };
    for (const [name, knob] of Object.entries(knobs)) settings[name] = knob.value;
    for (const [token, knob] of biases) settings.bias.set(token, knob.value);
    // What sorts the vocabulary is done again only for another bias or penalty.
    const key = [[...settings.bias], settings.repetition].join();
    if (memory.key !== key) memory = { key, moved: shifted(settings) };
    const found = distribution(memory.moved, settings);
    const after = found.logprobs;
    const changed = [...settings.bias].filter(([, offset]) => offset !== 0).map(([token]) => token);
    const tokens = listed(found, [...new Set([...always, ...changed])]);
    const scale = scaleOf(Math.exp(Math.max(...tokens.map((token) => Math.max(before[token], after[token])))));
    byId("tokens").tBodies[0].replaceChildren(...tokens.map((token) => row(token, after[token], scale)));
    byId("scale").textContent = `A whole bar is ${scale}.`;
    const together = (logs) => share(tokens.reduce((sum, token) => sum + Math.exp(logs[token]), 0));
    const facts = byId("facts");
    facts.textContent =
      `${found.kept} of ${n} tokens kept; entropy ${inNats(entropyBefore)} nats before, ${inNats(found.entropy)} after; ` +
      `listed: ${together(before)} before, ${together(after)} after.`;
    facts.setAttribute("data-kept", found.kept);
    facts.setAttribute("data-entropy", found.entropy);
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
      const isNumber = Number.isFinite(value);
      exact.value = isNumber ? value : "";
      exact.placeholder = isNumber ? "" : String(value).replace("Infinity", "inf");
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
