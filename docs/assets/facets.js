// The catalog's page: words, facets that count as one narrows, order, and a list that the reader keeps.
//
// What is chosen is in the address, so that it can be shared; what is kept is in the browser's storage.
// `CATALOG` is in assets/entries.js, which `python -m catalog build` writes; `fold` and `identifier` are in search.js.

const SHOWN = 7 // values of a facet before "all"
const { facets: FACETS, entries: ENTRIES } = window.CATALOG
const form = document.getElementById("filter")
const panel = document.getElementById("facets")
const list = document.getElementById("found")
const say = list.dataset

const number = (entry) => entry.place
const ORDERS = {
  "": (a, b) => number(a) - number(b), // as they come: the latest year first
  oldest: (a, b) => a.year[0] - b.year[0] || number(a) - number(b),
  title: (a, b) => a.title.localeCompare(b.title, document.documentElement.lang, { sensitivity: "base" }),
  links: (a, b) => (b.links ?? 0) - (a.links ?? 0) || number(a) - number(b),
  added: (a, b) => (b.added ?? "").localeCompare(a.added ?? "") || number(a) - number(b),
}
for (const [place, entry] of ENTRIES.entries()) {
  entry.place = place
  entry.text = fold([entry.title, entry.people, entry.venue, entry.summary, entry.words].filter(Boolean).join(" "))
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

// --- what is chosen, and the address ---

const chosen = Object.fromEntries(Object.keys(FACETS).map((name) => [name, new Set()]))
let listed = null // ids of a kept list that the address names
let shown = 0

function readAddress() {
  const asked = new URLSearchParams(location.search)
  if (asked.get("measured")) asked.append("results", "measured") // addresses of before
  for (const [name, facet] of Object.entries(FACETS)) {
    const known = new Set(facet.values.map(([value]) => value))
    const named = asked.getAll(facet.parameter).flatMap((text) => text.split(","))
    chosen[name] = new Set(named.filter((value) => known.has(value)))
  }
  form.words.value = asked.get("words") ?? ""
  form.sort.value = asked.get("sort") ?? ""
  if (form.sort.selectedIndex < 0) form.sort.value = ""
  listed = asked.has("list") ? new Set(asked.get("list").split(",")) : null
}

function writeAddress() {
  const state = new Map()
  if (form.words.value) state.set("words", [form.words.value])
  for (const [name, facet] of Object.entries(FACETS)) {
    if (chosen[name].size) state.set(facet.parameter, [...(state.get(facet.parameter) ?? []), ...chosen[name]])
  }
  if (listed) state.set("list", [...listed])
  if (form.sort.value) state.set("sort", [form.sort.value])
  const text = [...state].map(([name, values]) => `${name}=${values.map(encodeURIComponent).join(",")}`).join("&")
  history.replaceState(null, "", text ? "?" + text : location.pathname)
}

// --- which entries fit ---

function fits(entry, name) {
  const values = entry[name] ?? []
  const asked = [...chosen[name]]
  if (!asked.length) return true
  return FACETS[name].all ? asked.every((each) => values.includes(each)) : asked.some((each) => values.includes(each))
}

function found(without = "") {
  const words = identifier(form.words.value)?.split(" ") ?? fold(form.words.value).split(/\s+/).filter(Boolean)
  const names = Object.keys(FACETS).filter((name) => name !== without && chosen[name].size)
  return ENTRIES.filter(
    (entry) =>
      (!listed || listed.has(entry.id)) &&
      words.every((word) => entry.text.includes(word)) &&
      names.every((name) => fits(entry, name)),
  )
}

// How many entries there would be with each value. Where one of several values suffices, those already chosen do not
// count; where all must be there, they do.
function counts(name) {
  const numbers = new Map()
  for (const entry of found(FACETS[name].all ? "" : name)) {
    for (const value of entry[name] ?? []) numbers.set(value, (numbers.get(value) ?? 0) + 1)
  }
  return numbers
}

// --- what is kept ---

const KEPT = "kept entries"

function kept() {
  try {
    return new Set(JSON.parse(localStorage.getItem(KEPT) ?? "[]"))
  } catch { // no storage, or something else is there
    return new Set()
  }
}

function keep(id, on) {
  const ids = kept()
  if (on) ids.add(id)
  else ids.delete(id)
  try {
    localStorage.setItem(KEPT, JSON.stringify([...ids]))
  } catch { /* no storage: the star holds for this page */ }
}

// --- the facets ---

const boxes = {}

function drawFacets() {
  for (const [name, facet] of Object.entries(FACETS)) {
    const set = element("fieldset", { className: "facet-" + name }, element("legend", { textContent: facet.title }))
    const rows = element("div")
    boxes[name] = facet.values.map(([value, label]) => {
      const box = element("input", { type: "checkbox", value })
      const count = element("span", { className: "number" })
      const row = element("label", {}, box, element("span", { textContent: label }), count)
      box.addEventListener("change", () => {
        if (box.checked) chosen[name].add(value)
        else chosen[name].delete(value)
        apply()
      })
      rows.append(row)
      return { value, box, count, row }
    })
    const all = element("button", { type: "button", className: "all" })
    all.setAttribute("aria-expanded", "false")
    all.addEventListener("click", () => {
      all.setAttribute("aria-expanded", all.getAttribute("aria-expanded") === "false")
      updateFacets()
    })
    set.append(rows, all)
    panel.lastElementChild.append(set)
  }
  if (matchMedia("(max-width: 59.9844em)").matches) panel.open = false
}

function updateFacets() {
  for (const [name, rows] of Object.entries(boxes)) {
    const numbers = counts(name)
    if (!rows.length) continue
    const set = rows[0].row.closest("fieldset")
    const all = set.querySelector(".all")
    const open = all.getAttribute("aria-expanded") === "true"
    const useful = rows.filter(({ value }) => numbers.get(value) || chosen[name].has(value))
    const most = name === "year" ? 12 : SHOWN
    const visible = new Set(open ? useful : useful.filter((each, place) => place < most || chosen[name].has(each.value)))
    for (const each of rows) {
      each.box.checked = chosen[name].has(each.value)
      each.count.textContent = numbers.get(each.value) ?? 0
      each.row.hidden = !visible.has(each)
    }
    set.hidden = !useful.length
    all.hidden = useful.length <= most
    all.textContent = open ? say.fewer : `${say.all} ${useful.length}`
  }
}

// --- the list ---

function label(name, value) {
  return FACETS[name].values.find(([each]) => each === value)[1]
}

function card(entry, stars) {
  const star = element("button", { type: "button", className: "star", title: say.keep })
  star.setAttribute("aria-label", `${say.keep}${say.colon}${entry.title}`)
  star.setAttribute("aria-pressed", stars.has(entry.id))
  star.addEventListener("click", () => {
    const on = star.getAttribute("aria-pressed") !== "true"
    star.setAttribute("aria-pressed", on)
    keep(entry.id, on)
    drawChosen()
  })
  const kind = element("span", { className: `kind kind-${entry.kind[0]}`, textContent: label("kind", entry.kind[0]) })
  const meta = element("span", { className: "meta" }, kind, " ")
  for (const text of [entry.year[0], entry.people, entry.venue]) {
    if (text) meta.append(element("span", { textContent: text }), " ")
  }
  if (entry.results?.includes("measured")) {
    meta.append(element("span", { className: "measured", textContent: label("results", "measured") }))
  }
  const link = element("a", { className: "card-title", href: `entries/${entry.id}.html`, textContent: entry.title })
  const made = element("li", { className: "card" }, star, link, meta)
  if (entry.summary) made.append(element("p", { textContent: entry.summary }))
  return made
}

function chip(text, remove) {
  const made = element("button", { type: "button", className: "chip", textContent: text })
  made.setAttribute("aria-label", `${say.remove}${say.colon}${text}`)
  made.addEventListener("click", () => {
    remove()
    apply()
    form.words.focus()
  })
  return made
}

function drawChosen() {
  const place = document.getElementById("chosen")
  const chips = Object.entries(chosen).flatMap(([name, values]) =>
    [...values].map((value) =>
      chip(`${FACETS[name].title}${say.colon}${label(name, value)}`, () => chosen[name].delete(value)),
    ),
  )
  if (listed) chips.push(chip(`${say.list} (${listed.size})`, () => { listed = null }))
  if (chips.length + Boolean(form.words.value) > 1) {
    const clear = chip(say.clear, () => {
      Object.values(chosen).forEach((values) => values.clear())
      form.words.value = ""
      listed = null
    })
    clear.className = "clear"
    clear.removeAttribute("aria-label")
    chips.push(clear)
  }
  const ids = [...kept()].filter((id) => ENTRIES.some((entry) => entry.id === id))
  if (ids.length && !listed) {
    const own = element("a", { className: "own", href: `?list=${ids.join(",")}`, textContent: `★ ${say.kept} ${ids.length}` })
    chips.push(own)
  }
  place.replaceChildren(...chips)
}

let current = []

function showMore() {
  const step = Number(say.step)
  const stars = kept()
  const fresh = current.slice(shown, shown + step).map((entry) => card(entry, stars))
  list.append(...fresh)
  shown += fresh.length
  const rest = current.length - shown
  const more = document.getElementById("more")
  more.replaceChildren()
  if (rest > 0) {
    const button = element("button", { type: "button", textContent: say.more.replace("{n}", Math.min(rest, step)) })
    button.addEventListener("click", () => showMore()[0].querySelector("a").focus())
    more.append(button)
  }
  return fresh
}

function apply() {
  current = found().sort(ORDERS[form.sort.value])
  shown = 0
  list.replaceChildren()
  showMore()
  if (!current.length) list.append(element("li", { className: "none", textContent: say.none }))
  const count = document.getElementById("count")
  count.textContent = count.dataset.words.replace("{n}", current.length).replace("{all}", ENTRIES.length)
  updateFacets()
  drawChosen()
  writeAddress()
}

readAddress()
drawFacets()
apply()
form.addEventListener("input", apply)
form.addEventListener("submit", (event) => event.preventDefault())
window.addEventListener("popstate", () => {
  readAddress()
  apply()
})
