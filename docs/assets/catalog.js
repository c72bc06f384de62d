// What pages do beyond being read: filter and sort tables, remember the chosen language.

// The state of the filter is in the address, so that a filtered table can be linked to.
function filterTable() {
  const form = document.getElementById("filter")
  if (!form) return
  const rows = [...document.querySelectorAll("#catalog tbody tr")]
  const texts = rows.map((row) => fold(row.dataset.words + " " + row.textContent))
  const count = document.getElementById("count")
  const lists = ["kind", "tag", "year", "language"]

  function apply() {
    const words = identifier(form.words.value)?.split(" ") ?? fold(form.words.value).split(/\s+/).filter(Boolean)
    const shown = rows.filter((row, number) => {
      const fits =
        words.every((word) => texts[number].includes(word)) &&
        lists.every((name) => !form[name].value || row.dataset[name].split(" ").includes(form[name].value)) &&
        (!form.measured.checked || row.dataset.measured)
      row.hidden = !fits
      return fits
    })
    count.textContent = count.dataset.words.replace("{n}", shown.length).replace("{all}", rows.length)
    const state = new URLSearchParams([...new FormData(form)].filter(([, value]) => value))
    history.replaceState(null, "", state.size ? "?" + state : location.pathname)
  }

  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements[name]
    if (field?.type === "checkbox") field.checked = Boolean(value)
    else if (field) field.value = value
  }
  form.addEventListener("input", apply)
  form.addEventListener("submit", (event) => event.preventDefault())
  form.addEventListener("reset", () => setTimeout(apply))
  if (location.search) apply()
}

// A click on a column's name sorts by it, another turns the order round. Where a table has several bodies, the rows of
// each stay together, and the first number among them counts.
function sortTable(table) {
  const headers = [...table.tHead.rows[0].cells]
  const language = document.documentElement.lang
  headers.forEach((header, column) => {
    header.querySelector("button")?.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending"
      const grouped = table.tBodies.length > 1
      const text = (cell) => (cell.querySelector(".state") ? "–" : cell.textContent.trim())
      const cell = (row) => row.cells[column].dataset.value ?? text(row.cells[column])
      const value = (unit) => (grouped ? [...unit.rows] : [unit]).map(cell).find((each) => each !== "–") ?? "–"
      const order = (a, b) => value(a).localeCompare(value(b), language, { numeric: true })
      const numbers = (a, b) => value(a) - value(b)
      const rows = [...(grouped ? table.tBodies : table.tBodies[0].rows)]
      const missing = rows.filter((row) => value(row) === "–")
      const present = rows.filter((row) => value(row) !== "–")
      present.sort(present.every((row) => value(row) !== "" && !isNaN(value(row))) ? numbers : order)
      if (!ascending) present.reverse()
      const place = grouped ? table : table.tBodies[0]
      place.append(...present, ...missing) // what was not measured stays last
      headers.forEach((each) => each.removeAttribute("aria-sort"))
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending")
    })
  })
}

function rememberLanguage() {
  document.querySelector("a.language")?.addEventListener("click", (event) => {
    try {
      localStorage.setItem("language", event.currentTarget.dataset.language)
    } catch { /* no storage: the choice holds for this page */ }
  })
}

filterTable()
document.querySelectorAll("table:is(.catalog, .sortable)").forEach(sortTable)
rememberLanguage()
