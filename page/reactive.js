// Signals, effects, DOM nodes and keyed lists: all the reactivity that the page has.
//
// A signal holds a value. An effect runs a function, remembers the signals that it read, and runs again in a microtask
// after one of them changed. What an effect or a scope makes (effects within, clean-ups) ends with it.

let reader = null; // the effect that runs now
let owned = null; // the clean-ups of the effect or scope that runs now
let waiting = new Set();

/** Returns an object whose `value` may be read and set. Effects that read it run again when it changes. */
export function signal(value) {
  const readers = new Set();
  return {
    get value() {
      if (reader) {
        readers.add(reader);
        reader.sources.add(readers);
      }
      return value;
    },
    set value(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const each of readers) schedule(each);
    },
    peek: () => value,
  };
}

/** Runs `run` now, and again after each change of a signal that it read. */
export function effect(run) {
  const self = { sources: new Set(), cleanups: [], ended: false };
  self.run = () => {
    release(self);
    within(self, self.cleanups, run);
  };
  onCleanup(() => {
    self.ended = true;
    release(self);
  });
  self.run();
}

/** Returns a signal that holds what `compute` returns. */
export function computed(compute) {
  const result = signal();
  effect(() => (result.value = compute()));
  return result;
}

/** Runs `make` in a scope of its own, and returns its result and the function that ends the scope. */
export function scope(make) {
  const cleanups = [];
  return [within(null, cleanups, make), () => cleanups.splice(0).forEach((cleanup) => cleanup())];
}

/** Calls `cleanup` when the running effect or scope ends. */
export const onCleanup = (cleanup) => owned?.push(cleanup);

function within(effectOrNull, cleanups, run) {
  const before = [reader, owned];
  [reader, owned] = [effectOrNull, cleanups];
  try {
    return run();
  } finally {
    [reader, owned] = before;
  }
}

function release(self) {
  self.cleanups.splice(0).forEach((cleanup) => cleanup());
  self.sources.forEach((readers) => readers.delete(self));
  self.sources.clear();
}

function schedule(one) {
  if (!waiting.size) queueMicrotask(flush);
  waiting.add(one);
}

function flush() {
  for (let round = 0; waiting.size && round < 100; round += 1) {
    const now = waiting;
    waiting = new Set();
    for (const one of now) if (!one.ended) one.run();
  }
}

/** Makes an element. A property that is a function follows its signals; `on…` properties are listeners. */
export function h(tag, properties = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else typeof value === "function" ? effect(() => assign(node, name, value())) : assign(node, name, value);
  }
  add(node, children);
  return node;
}

function assign(node, name, value) {
  if (name === "style") Object.assign(node.style, value);
  else if (name === "value" || name === "checked") node[name] = value;
  else if (value === true) node.setAttribute(name, "");
  else if (value === false || value == null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

/** Appends children: nodes, text, arrays of these, and functions, whose results are replaced when signals change. */
export function add(parent, child) {
  if (Array.isArray(child)) child.forEach((one) => add(parent, one));
  else if (typeof child === "function") {
    const end = parent.appendChild(document.createTextNode(""));
    let shown = [];
    effect(() => {
      const next = [child()].flat(Infinity).filter((one) => one != null && one !== false);
      shown.forEach((one) => one.remove());
      shown = next.map((one) => (one instanceof Node ? one : document.createTextNode(one)));
      end.before(...shown);
    });
  } else if (child != null && child !== false) parent.append(child);
}

/** Keeps one child of `container` for each of `items()`. `render` gets a signal that holds the item. */
export function each(container, items, key, render) {
  let rows = new Map();
  onCleanup(() => rows.forEach((row) => row.end()));
  effect(() => {
    const wanted = new Map(items().map((item) => [key(item), item]));
    for (const [id, row] of rows) {
      if (wanted.has(id)) continue;
      row.end();
      row.node.remove();
      rows.delete(id);
    }
    let place = container.firstChild;
    const next = new Map();
    for (const [id, item] of wanted) {
      const row = rows.get(id) ?? { item: signal(item) };
      if (!row.node) [row.node, row.end] = scope(() => render(row.item));
      row.item.value = item;
      next.set(id, row);
      if (row.node === place) place = place.nextSibling;
      else container.insertBefore(row.node, place);
    }
    rows = next;
  });
  return container;
}
