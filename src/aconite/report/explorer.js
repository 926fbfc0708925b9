
// The explorer. Everything follows from six values, which stand in the page's address as well.
{
  const at = (id) => document.getElementById(id);
  const sigmoid = (z) => 1 / (1 + Math.exp(-z));
  // η: what it is called, its value and slope at x, and how it is written in Python; p is p1 in η_a and p2 in η_b.
  const parts = {
    p: { label: (p) => `${p}·x`, f: (x, p) => p * x, slope: (x, p) => p, code: (p) => `${p} * x` },
    x: { label: () => "x", f: (x) => x, slope: () => 1, code: () => "x" },
    0: { label: () => "0", f: () => 0, slope: () => 0, code: () => "torch.zeros_like(x)" },
    1: { label: () => "1", f: () => 1, slope: () => 0, code: () => "torch.ones_like(x)" },
    "-1": { label: () => "−1", f: () => -1, slope: () => 0, code: () => "-torch.ones_like(x)" },
    "-x": { label: () => "−x", f: (x) => -x, slope: () => -1, code: () => "-x" },
    tanh: { label: () => "tanh x", f: Math.tanh, slope: (x) => 1 - Math.tanh(x) ** 2, code: () => "torch.tanh(x)" },
  };
  const presets = {
    Swish: { a: "x", b: "0", beta: 1 },
    "near ReLU": { a: "x", b: "0", beta: 10 },
    mean: { a: "x", b: "0", beta: 0 },
    "ACON-B": { a: "x", b: "p", p2: 0.25, beta: 1 },
    "ACON-C": { a: "p", b: "p", p1: 1.2, p2: -0.8, beta: 1 },
    clip: { a: "x", b: "1", beta: -3 },
  };
  const state = { a: "p", b: "p", p1: 1, p2: 0, beta: 1, x: 1 };
  const numbers = ["p1", "p2", "beta", "x"];

  // z where the slope turns: (z − 2)·e^z = z + 2, by Newton's method; and the slope's bound there, 1.0998…
  let turn = 2.4;
  for (let step = 0; step < 8; step += 1) {
    turn -= ((turn - 2) * Math.exp(turn) - turn - 2) / ((turn - 1) * Math.exp(turn) - 1);
  }
  const share = (z) => (Number.isFinite(z) ? sigmoid(z) + z * sigmoid(z) * sigmoid(-z) : Number(z > 0));
  const bound = share(turn);

  const values = (x) => [parts[state.a].f(x, state.p1), parts[state.b].f(x, state.p2)];
  const f = (x) => {
    const [a, b] = values(x);
    return (a - b) * sigmoid(state.beta * (a - b)) + b;
  };
  const sharp = (x) => (state.beta < 0 ? Math.min : Math.max)(...values(x));
  const slope = (x) => {
    const [a, b] = values(x);
    const weight = share(state.beta * (a - b));
    return parts[state.a].slope(x, state.p1) * weight + parts[state.b].slope(x, state.p2) * (1 - weight);
  };
  const lines = () => ["p", "x", "0", "-x"].includes(state.a) && ["p", "x", "0", "-x"].includes(state.b);
  const reach = 5;
  const grid = Array.from({ length: 401 }, (_, step) => -reach + (2 * reach * step) / 400);
  const bounds = () => {
    if (!lines()) return [Math.min(...grid.map(slope)), Math.max(...grid.map(slope))];
    const slopes = [parts[state.a].slope(0, state.p1), parts[state.b].slope(0, state.p2)];
    if (state.beta === 0) return [(slopes[0] + slopes[1]) / 2, (slopes[0] + slopes[1]) / 2];
    const [low, high] = [Math.min(...slopes), Math.max(...slopes)];
    return [bound * low + (1 - bound) * high, bound * high + (1 - bound) * low];
  };

  const shown = (value) => String(Number(value.toPrecision(10)));
  const write = (id, value) => {
    at(id).dataset.value = value;
    at(id).textContent = value.toFixed(4).replace("-", "−");
  };
  const described = () => {
    const [a, b] = [parts[state.a].label("p1"), parts[state.b].label("p2")];
    const minimum = state.beta < 0;
    const known = {
      "x 0": ["ACON-A, known as Swish", "ReLU"],
      "x p": ["ACON-B", "PReLU"],
      "p p": ["ACON-C", "Maxout of two lines"],
    }[`${state.a} ${state.b}`] ?? ["a member of the general family", "its Maxout member"];
    const member = `${minimum ? "min" : "max"}(${a}, ${b})`;
    const kind = state.beta === 0 ? `At β = 0 it is the mean, (${a} + ${b})/2.`
      : `It smooths ${minimum ? "the minimum" : known[1]}, ${member}.`;
    return { text: `${known[0][0].toUpperCase()}${known[0].slice(1)}. ${kind}`, member };
  };
  const code = () => {
    const [p1, p2, beta] = [shown(state.p1), shown(state.p2), shown(state.beta)];
    const call = "y = aconite.functional.";
    switch (`${state.a} ${state.b}`) {
      case "x 0": return `${call}acon_a(x, beta=${beta})`;
      case "x p": return `${call}acon_b(x, p2=${p2}, beta=${beta})`;
      case "p p": return `${call}acon_c(x, p1=${p1}, p2=${p2}, beta=${beta})`;
      default: return `${call}acon(${parts[state.a].code(p1)}, ${parts[state.b].code(p2)}, beta=${beta})`;
    }
  };

  const element = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const draw = (id, height, curves, levels, y) => {
    const svg = at(id);
    const [wide, high] = [svg.clientWidth, svg.clientHeight];
    const across = (value) => wide / 2 + (value / reach) * (wide / 2 - 4);
    const down = (value) => high / 2 - (value / height) * (high / 2 - 4);
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    svg.replaceChildren();
    for (const tick of [-4, -2, 0, 2, 4]) {
      svg.append(element("path", { class: tick ? "grid" : "axis", d: `M${across(tick)} 0V${high}` }));
      if (tick) svg.append(element("text", { x: across(tick) - 4, y: down(0) + 14 }, String(tick).replace("-", "−")));
    }
    for (const tick of height === 5 ? [-4, -2, 0, 2, 4] : [-2, -1, 0, 1, 2]) {
      svg.append(element("path", { class: tick ? "grid" : "axis", d: `M0 ${down(tick)}H${wide}` }));
      if (tick) svg.append(element("text", { x: across(0) + 4, y: down(tick) + 4 }, String(tick).replace("-", "−")));
    }
    for (const level of levels) svg.append(element("path", { class: "bound", d: `M0 ${down(level)}H${wide}` }));
    for (const [look, curve] of curves) {
      const points = grid.map((x) => `${across(x).toFixed(2)} ${down(Math.max(-99, Math.min(99, curve(x)))).toFixed(2)}`);
      svg.append(element("path", { class: look, d: `M${points.join("L")}` }));
    }
    svg.append(element("circle", { cx: across(state.x), cy: down(y), r: 4.5 }));
  };

  const show = () => {
    const [least, greatest] = bounds();
    const away = state.beta === 0 ? Infinity : 0.2784645427610738 / Math.abs(state.beta);
    const { text, member } = described();
    const parts_ = [0, 1].map((which) => ["part", (x) => values(x)[which]]);
    draw("function", 5, [...parts_, ["sharp", sharp], ["curve", f]], [], f(state.x));
    draw("derivative", 2.5, [["curve", slope]], [least, greatest], slope(state.x));
    for (const name of numbers) {
      at(name).value = state[name];
      if (document.activeElement !== at(`${name}-number`)) at(`${name}-number`).value = shown(state[name]);
    }
    at("a").value = state.a;
    at("b").value = state.b;
    for (const [name, used] of [["p1", state.a === "p"], ["p2", state.b === "p"]]) {
      at(name).disabled = at(`${name}-number`).disabled = !used;
    }
    write("value", f(state.x));
    write("slope", slope(state.x));
    write("sharp", sharp(state.x));
    write("least", least);
    write("greatest", greatest);
    write("distance", away);
    if (away === Infinity) at("distance").textContent = "no limit";
    at("sharp-name").textContent = member;
    at("distance-name").textContent = `distance to the ${state.beta < 0 ? "minimum" : "maximum"}, at most`;
    at("name").textContent = text;
    at("code").textContent = code();
    at("function").setAttribute("aria-label", `${text} At x = ${shown(state.x)} its value is ${at("value").textContent}.`);
    at("derivative").setAttribute("aria-label",
      `Its derivative, between ${at("least").textContent} and ${at("greatest").textContent}.`);
  };
  let pending = 0;
  const set = (changes) => {
    for (const [name, value] of Object.entries(changes)) {
      if (numbers.includes(name) ? Number.isFinite(value) : Object.hasOwn(parts, value)) state[name] = value;
    }
    show();
    clearTimeout(pending); // browsers allow some hundred changes of the address a minute
    pending = setTimeout(() => {
      const kept = new URLSearchParams(Object.entries(state).map(([name, value]) => [name, String(value)]));
      try { history.replaceState(null, "", `#${kept}`); } catch { /* a file shown without an address keeps none */ }
    }, 250);
  };

  for (const [id, parameter] of [["a", "p1"], ["b", "p2"]]) {
    for (const [value, part] of Object.entries(parts)) at(id).add(new Option(part.label(parameter), value));
    at(id).addEventListener("input", () => set({ [id]: at(id).value }));
  }
  for (const name of numbers) {
    at(name).addEventListener("input", () => set({ [name]: at(name).valueAsNumber }));
    at(`${name}-number`).addEventListener("input", () => set({ [name]: at(`${name}-number`).valueAsNumber }));
    at(`${name}-number`).addEventListener("blur", show);
  }
  for (const [name, values_] of Object.entries(presets)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => set(values_));
    document.querySelector(".presets").append(button);
  }
  for (const id of ["function", "derivative"]) {
    at(id).addEventListener("pointermove", (event) => {
      const [box, wide] = [at(id).getBoundingClientRect(), at(id).clientWidth];
      const x = ((event.clientX - box.left - wide / 2) / (wide / 2 - 4)) * reach;
      set({ x: Math.round(100 * Math.max(-reach, Math.min(reach, x))) / 100 });
    });
  }
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(at("code").textContent);
      at("copy").textContent = "Copied";
      setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
    } catch {
      getSelection().selectAllChildren(at("code")); // where a file may not write to the clipboard
    }
  });
  const follow = () => {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    for (const name of numbers) if (given[name]) given[name] = Number(given[name]);
    set(Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(state, name))));
  };
  addEventListener("hashchange", follow);
  new ResizeObserver(show).observe(at("function"));
  follow();
}
